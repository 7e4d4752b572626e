/** Training without a command: what a step is, which sentences it sees, and what a checkpoint holds. */
export * from "./architecture.ts";
export * from "./augment.ts";
export * from "./average.ts";
export * from "./checkpoint.ts";
export * from "./data.ts";
export * from "./initialize.ts";
export * from "./masking.ts";
export * from "./objective.ts";
export * from "./schedule.ts";
export * from "./step.ts";
export * from "./teaching.ts";
export * from "./trainer.ts";
