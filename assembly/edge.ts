/** What the edge binary exports: the forward pass of inference, and search. */
export { geluForward, tanhForward } from "./activation";
export { attentionExactForward, attentionForward } from "./attention";
export { embeddingForward, embeddingInt8Forward, staticEmbeddingForward } from "./embedding";
export { layerNormForward } from "./layernorm";
export { linearForward, linearPackedForward, packLinear } from "./linear";
export { linearQuantizedForward } from "./linear-quantized";
export { averageForward, copyColumns, normalizeForward, poolingForward } from "./pooling";
export { quantizeActivations, quantizeRowsInt8 } from "./quantize";
export {
  hopefulInt8,
  innerProducts,
  innerProductsInt8,
  selectScores,
  signAgreements,
  sumCodes,
} from "./search";
export { barrier, heapBase, join } from "./team";
