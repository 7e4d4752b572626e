import { mkdir } from "node:fs/promises";
import { join, relative } from "node:path";
import { type Command, Option } from "commander";
import { UsageError } from "../errors.ts";
import { compileKernels } from "../node/binaries.ts";
import { readFileOr } from "../node/files.ts";
import { type ModelFolder, readModelFolder } from "../node/model-folder.ts";
import { type Limit, measureLimits } from "../node/worker-limits.ts";
import {
  DOCUMENT_STORES,
  type Documents,
  modelFiles,
  type Store,
  STORES,
  workerName,
  type WorkerProject,
  writeWorkerProject,
} from "../node/worker-project.ts";
import { fillLocalBucket, startWorker } from "../node/worker-run.ts";
import { wrangler } from "../node/workerd.ts";
import { quantizeModel } from "../quantize/quantize.ts";
import { wholeNumber } from "./options.ts";
import { heading, note, table } from "./terminal.ts";

interface ProjectOptions {
  readonly model: string;
  readonly name: string;
  readonly output?: string;
  readonly index?: string;
  readonly weights: Store;
  readonly bucket?: string;
  readonly documents?: Documents;
  readonly shareModel?: boolean;
}
interface DeployOptions extends ProjectOptions {
  readonly dryRun?: boolean;
}
interface DevOptions extends ProjectOptions {
  readonly port: number;
}

/** A model as a Worker serves it: int8, but a static one, which has no layers, as it is. */
async function readForWorker(path: string): Promise<ModelFolder> {
  const model = await readModelFolder(path);
  if (model.config.dtype !== "f32" || model.config.table) return model;
  const { config, tensors } = quantizeModel(
    await compileKernels("node"),
    model.config,
    model.tensors,
    model.weightsFile,
  );
  note(`${path}: f32, quantized to int8`);
  return { ...model, config, tensors: new Map(tensors) };
}

async function writeProject(options: ProjectOptions): Promise<WorkerProject> {
  const { model, name, weights: store, bucket, documents, shareModel = false } = options;
  if (bucket !== undefined && store !== "r2") {
    throw new UsageError(`--bucket ${bucket}: only --weights r2 has a bucket`);
  }
  if (documents !== undefined && options.index !== undefined) {
    throw new UsageError("expected --index or --documents, not both: /search is over one of them");
  }
  const directory = options.output ?? join("workers", workerName(name));
  await mkdir(directory, { recursive: true });
  const project = await writeWorkerProject(directory, {
    model: await readForWorker(model),
    name,
    store,
    shareModel,
    ...(bucket !== undefined && { bucket }),
    ...(documents !== undefined && { documents }),
    ...(options.index !== undefined && { index: await readFileOr(options.index, "an index") }),
  });
  note(`${relative("", directory) || "."}: ${name}, version ${project.manifest.version}`);
  return project;
}

/** Copies the files of a model to its bucket online. */
async function fillBucket({ directory, manifest }: WorkerProject, bucket: string): Promise<void> {
  for (const file of modelFiles(manifest)) {
    const key = `${bucket}/model/${file}`;
    await wrangler(directory, ["r2", "object", "put", key, `--file=model/${file}`, "--remote"]);
  }
}

async function deploy(options: DeployOptions): Promise<void> {
  const project = await writeProject(options);
  const limits = await measureLimits(project);
  const broken = limits.filter(({ value, most }) => value > most);
  if (!options.dryRun && broken.length === 0) {
    if (options.weights === "r2") {
      await fillBucket(project, options.bucket ?? workerName(options.name));
    }
    await wrangler(project.directory, ["deploy"], { show: true });
  }
  console.log(limitTable(limits));
  if (broken.length === 0) return;
  const names = broken.map(({ name }) => name).join("; ");
  throw new Error(
    `past its limit: ${names}; not deployed. A smaller model, or --weights, may help`,
  );
}

/** A row for each limit: what is used, and what is left. */
export function limitTable(limits: readonly Limit[]): string {
  const show = (value: number, unit: string): string =>
    unit === "" ? String(value) : `${value.toFixed(1)} ${unit}`;
  const rows = limits.map(({ name, value, most, unit }) => [
    name,
    show(most, unit),
    show(value, unit),
    `${(100 * (1 - value / most)).toFixed(0)} %`,
  ]);
  return table([["", "limit", "value", "headroom"], ...rows]);
}

async function dev(options: DevOptions): Promise<void> {
  if (options.documents === "vectorize") {
    throw new UsageError("--documents vectorize: it runs only online; use durable-object here");
  }
  const project = await writeProject(options);
  if (options.weights === "r2") await fillLocalBucket(project);
  // Only this computer can reach it.
  await using worker = await openWorker(project.directory, options.port);
  heading(`${worker.url}   (Ctrl-C ends)`);
  await new Promise<void>((done) => {
    process.once("SIGINT", done).once("SIGTERM", done);
  });
}

async function openWorker(
  directory: string,
  port: number,
): Promise<{ readonly url: string } & AsyncDisposable> {
  const variables = { PUBLIC: "true", SHARE_MODEL: "true" };
  const worker = await startWorker(directory, { ...(port > 0 && { port }), variables });
  return { url: worker.url, [Symbol.asyncDispose]: () => worker.close() };
}

function projectOptions(command: Command): Command {
  return command
    .requiredOption("--model <folder>", "model folder; one of f32 is quantized to int8")
    .option("--name <name>", "what clients call the model; it also names the Worker", "simcse-edge")
    .option("--output <folder>", "the Worker's project (default: workers/<name>)")
    .option("--index <file>", "what `simcse index build` wrote, for /search")
    .addOption(
      new Option(
        "--documents <store>",
        "keeps documents there, for /documents and /search",
      ).choices(DOCUMENT_STORES),
    )
    .addOption(
      new Option("--weights <place>", "where the Worker has the weights from")
        .choices(STORES)
        .default("assets"),
    )
    .option("--bucket <name>", "the R2 bucket (default: the name of the Worker)")
    .option("--share-model", "clients may have the model's files, to run it in the page's tab");
}

export function addDeploy(program: Command): void {
  projectOptions(program.command("deploy"))
    .description("a Worker of your model: written, measured against Cloudflare's limits, uploaded")
    .option("--dry-run", "all but the upload")
    .action((options: DeployOptions) => deploy(options));
}

export function addDev(program: Command): void {
  projectOptions(program.command("dev"))
    .description("the same Worker on this computer, in Cloudflare's runtime")
    .option("--port <n>", "port to listen on; 0 takes a free one", wholeNumber(0), 8787)
    .action((options: DevOptions) => dev(options));
}
