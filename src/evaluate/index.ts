/** Evaluation without a command: graded pairs, published tasks, classifiers, and what vectors are scored by. */
export * from "./ablations.ts";
export * from "./classifier.ts";
export * from "./geometry.ts";
export * from "./measures.ts";
export * from "./pairs.ts";
export * from "./paraphrase.ts";
export * from "./published.ts";
export * from "./retrieval.ts";
export * from "./statistics.ts";
export * from "./sts.ts";
export * from "./transfer.ts";
export * from "./whitening.ts";
export * from "./word-vectors.ts";
