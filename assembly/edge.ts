/** What the edge binary exports: the forward pass of inference. */
export { addForward, geluForward, tanhForward } from "./activation";
export { attentionExactForward, attentionForward } from "./attention";
export { embeddingForward, embeddingInt8Forward } from "./embedding";
export { linearInt8Forward } from "./int8";
export { layerNormForward } from "./layernorm";
export { linearForward } from "./linear";
export { normalizeForward, poolingForward } from "./pooling";
export { innerProducts } from "./search";
export { barrier, heapBase, join } from "./team";
