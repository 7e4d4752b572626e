/** What the node, portable and check binaries export: inference and training. */
export * from "./edge";
export { addForward, geluBackward, geluExactForward, tanhBackward, zero } from "./activation";
export { adamWFactors, adamWRows, adamWStep, gradientNorm, moveAverage, zeroRows } from "./adamw";
export { attentionBackward } from "./attention";
export { distanceBackward, distanceForward, distillBackward, distillForward } from "./distill";
export { dropoutBackward, dropoutForward } from "./dropout";
export { embeddingBackward } from "./embedding";
export { infoNceBackward, infoNceForward } from "./infonce";
export { dequantizeInt4, packInt4 } from "./int4";
export { dequantizeInt8, packInt8 } from "./int8";
export { layerNormBackward } from "./layernorm";
export { linearBackwardInput, linearBackwardWeight } from "./linear";
export { crossEntropyBackward, crossEntropyForward } from "./mlm";
export { addColumns, poolingBackward } from "./pooling";
export { dequantizeRowsInt8 } from "./quantize";
export { dropoutOrigin } from "./random";
export { staticMeanBackward, staticMeanForward } from "./static";
