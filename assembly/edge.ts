/** What the edge binary exports: the forward pass of inference, and search. */
export { addForward, geluExactForward, geluForward, tanhForward } from "./activation";
export { attentionExactForward, attentionForward } from "./attention";
export { embeddingForward, embeddingInt8Forward, staticEmbeddingForward } from "./embedding";
export { linearInt8Forward, quantizeRowsInt8 } from "./int8";
export { layerNormForward } from "./layernorm";
export { linearForward, linearPackedForward, packLinear } from "./linear";
export { averageForward, copyColumns, normalizeForward, poolingForward } from "./pooling";
export { innerProducts, innerProductsInt8, signAgreements } from "./search";
export { barrier, heapBase, join } from "./team";
