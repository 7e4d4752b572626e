import { Command, CommanderError } from "commander";
import { UsageError } from "../errors.ts";
import { onDownload } from "../node/hub.ts";
import { version } from "../node/package.ts";
import { addAblate } from "./ablate.ts";
import { addAverage } from "./average.ts";
import { addConvert } from "./convert.ts";
import { addDeploy, addDev } from "./deploy.ts";
import { addEncode } from "./encode.ts";
import { addEval } from "./eval.ts";
import { addIndex } from "./index.ts";
import { addInit } from "./init.ts";
import { addInspect } from "./inspect.ts";
import { addKey } from "./key.ts";
import { addMerge } from "./merge.ts";
import { addNew } from "./new.ts";
import { addOverlap } from "./overlap.ts";
import { addQuantize } from "./quantize.ts";
import { addReport } from "./report.ts";
import { addServe } from "./serve.ts";
import { addSimilarity } from "./similarity.ts";
import { addStart } from "./start.ts";
import { Progress } from "./terminal.ts";
import { addTrain, Interrupted } from "./train.ts";
import { addVocab } from "./vocab.ts";

const program = new Command("simcse")
  .description(
    "Train SimCSE sentence embeddings and serve them from the edge, with the same WebAssembly kernels.",
  )
  .version(version())
  .exitOverride()
  .showHelpAfterError("(--help lists the options)");
const training = [
  addStart,
  addVocab,
  addInit,
  addTrain,
  addEval,
  addReport,
  addAblate,
  addAverage,
  addOverlap,
  addQuantize,
];
const using = [
  addEncode,
  addSimilarity,
  addIndex,
  addInspect,
  addConvert,
  addMerge,
  addServe,
  addNew,
  addDev,
  addDeploy,
  addKey,
];
for (const add of [...training, ...using]) add(program);

/** Runs the command of the command line, and sets the exit code. */
export async function run(): Promise<void> {
  const line = new Progress();
  onDownload(({ file, done, total }) => {
    const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
    line.show(() => `${file}: ${megabytes(done)} of ${megabytes(total)} MB`, done === total);
    if (done === total) line.end();
  });
  try {
    await program.parseAsync();
  } catch (error) {
    process.exitCode = exitCode(error);
  }
}

/** 0 done, 1 failed, 2 usage, 130 interrupted; commander has already printed what it refuses. */
function exitCode(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  console.error(`simcse: ${error instanceof Error ? error.message : String(error)}`);
  if (process.env["SIMCSE_DEBUG"]) console.error(error);
  if (error instanceof Interrupted) return 130;
  return error instanceof UsageError ? 2 : 1;
}
