/**
 * The whole path in one command: text that is already here teaches a model in the box, or one that begins from nothing; its
 * scores before and after, an int8 package and a running Worker. It calls what the other commands call, and prints them.
 */
import { mkdir } from "node:fs/promises";
import { join, relative } from "node:path";
import { type Command, Option } from "commander";
import { SimCSE } from "../node/index.ts";
import { PACKAGE } from "../node/package.ts";
import { readModelFolder } from "../node/model-folder.ts";
import { writeWorkerProject } from "../node/worker-project.ts";
import { startWorker } from "../node/worker-run.ts";
import { candidatesOf } from "./candidates.ts";
import { evaluateModels, reportTable } from "./eval.ts";
import { DEFAULT_THREADS, wholeNumber } from "./options.ts";
import { quantize } from "./quantize.ts";
import { type Announce, fineTune, readText, trainFromScratch } from "./start-model.ts";
import { count, heading, note } from "./terminal.ts";

interface StartOptions {
  readonly corpus?: string;
  readonly model: string;
  readonly fromScratch?: boolean;
  readonly output: string;
  readonly steps?: number;
  readonly threads: number;
  readonly port?: number;
  readonly serve: boolean;
}

const PAIRS = join(PACKAGE, "examples/software-pairs.tsv");

/** A model that has seen more than this text, to compare with. */
const OTHER = "simcse-edge-nano";

/** More sentences than this would only make the search page start later. */
const INDEXED = 50_000;

export async function start(options: StartOptions): Promise<void> {
  const folder = (name: string): string => relative("", join(options.output, name)) || ".";
  const { fromScratch = false, threads } = options;
  const begun = performance.now();
  let number = 0;
  const announce: Announce = (step) => heading(`${++number}. ${step}`);
  await mkdir(options.output, { recursive: true });

  announce("Corpus");
  const text = await readText(options.corpus, folder("corpus.txt"), folder("names.tsv"));
  note(`${text.corpus}: ${count(text.sentences.length)} sentences`);

  const before = fromScratch ? folder("untrained") : options.model;
  const trained = folder("trained");
  const run = {
    output: trained,
    threads,
    ...(options.steps !== undefined && { steps: options.steps }),
  };
  if (fromScratch) {
    const paths = { tokenizer: folder("tokenizer.json"), untrained: before };
    await trainFromScratch(paths, text, run, announce);
  } else {
    await fineTune({ model: before, tuned: folder("tuned") }, text, run, announce);
  }

  const int8 = folder("int8");
  announce(`simcse quantize --model ${trained} --output ${int8}`);
  await quantize({ model: trained, output: int8, dtype: "int8" });

  const gain = await compare(before, trained, int8, announce);
  // A model from nothing is served whatever it has learnt: one without any training is no model.
  const served = fromScratch || gain > 0 ? int8 : before;

  announce("A Worker");
  note(`it serves ${served}${fromScratch ? "" : ", the better of the two on these pairs"}`);
  const project = join(options.output, "worker");
  {
    await using model = await SimCSE.load(served, { threads });
    const index = await model.buildIndex(text.sentences.slice(0, INDEXED), { precision: "int8" });
    await writeWorkerProject(project, {
      model: await readModelFolder(served),
      index: await index.serialize(),
    });
  }
  const worker = await startWorker(project, {
    variables: { PUBLIC: "true", SHARE_MODEL: "true" },
    ...(options.port !== undefined && { port: options.port }),
  });
  try {
    note(`ready after ${Math.round((performance.now() - begun) / 1000)} s: ${worker.url}`);
    await showRequest(worker.url);
    if (!options.serve) return;
    note(`search page: ${worker.url}   (Ctrl-C ends)`);
    note("PUBLIC is set for this run: here no key is needed, where it is deployed one is");
    await new Promise<void>((done) => process.once("SIGINT", done));
  } finally {
    await worker.close();
  }
}

/** Prints the scores of the model before, after, after in int8 and of another; returns how many points the int8 one gained. */
async function compare(
  before: string,
  trained: string,
  int8: string,
  announce: Announce,
): Promise<number> {
  const models = [before, trained, int8, OTHER];
  announce(`simcse eval --model ${models.join(" ")} --pairs ${relative("", PAIRS)}`);
  const reports = await evaluateModels(await candidatesOf({ model: models }), PAIRS);
  const names = [before, trained, `${int8}, int8`, OTHER];
  console.log(reportTable(names, reports));
  const [first, , last] = reports.map(({ spearman }) => spearman);
  const overlap = reports[0]!.overlapSpearman;
  const beats = (name: string, score: number): string =>
    last! > score
      ? `beats ${name} by ${(last! - score).toFixed(2)} points`
      : `does NOT beat ${name}: ${(score - last!).toFixed(2)} points behind`;
  note(`${int8} ${beats("word overlap", overlap)} and ${beats(before, first!)}`);
  return last! - first!;
}

/** One real request, and the head of its answer. */
async function showRequest(url: string): Promise<void> {
  const body = {
    model: "simcse-edge",
    input: "Called when the connection is closed.",
    encoding_format: "float",
  };
  const address = new URL("/v1/embeddings", url);
  const response = await fetch(address, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok)
    throw new Error(`${address}: expected an embedding, found status ${response.status}`);
  const answer = (await response.json()) as {
    data: [{ embedding: number[] }];
    usage: { prompt_tokens: number };
  };
  const { embedding } = answer.data[0];
  const head = embedding.slice(0, 4).map((value) => value.toFixed(4));
  console.log(
    `\n$ curl ${address} -H 'content-type: application/json' -d '${JSON.stringify(body)}'`,
  );
  console.log(
    `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[${head.join(",")},… ${embedding.length} numbers]}],` +
      `"usage":${JSON.stringify(answer.usage)}}`,
  );
  const found = await fetch(new URL("/search", url), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query: body.input, top_k: 3 }),
  });
  const { results } = (await found.json()) as { results: { score: number; text: string }[] };
  console.log(`\nnearest in the corpus to "${body.input}"`);
  for (const { score, text } of results) console.log(`  ${score.toFixed(3)}  ${text}`);
}

export function addStart(program: Command): void {
  program
    .command("start")
    .description("all of it: corpus, training, evaluation, int8, Worker")
    .option(
      "--corpus <file>",
      "your own text, one sentence a line; default: the documentation of the installed packages",
    )
    .addOption(
      new Option("--model <model>", "what is fine-tuned: a folder, or a name")
        .default("simcse-edge-mini")
        .conflicts("fromScratch"),
    )
    .option("--from-scratch", "a vocabulary of the text and a model of random weights instead")
    .option("--output <folder>", "folder for everything that is made", "runs/start")
    .option("--steps <n>", "training steps, instead of epochs", wholeNumber(1))
    .option("--threads <n>", "threads", wholeNumber(1), DEFAULT_THREADS)
    .option("--port <n>", "port of the Worker", wholeNumber(1))
    .option("--no-serve", "end after one request instead of serving")
    .action((options: StartOptions) => start(options));
}
