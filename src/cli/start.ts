/**
 * The whole path in one command: text that is already here becomes a vocabulary, a trained model, its scores before and
 * after, an int8 package and a running Worker. It calls what the other commands call, and prints them.
 */
import { mkdir } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import type { Command } from "commander";
import { collectCorpus, readCorpus } from "../node/corpus.ts";
import { writeFileAtomic } from "../node/files.ts";
import { SimCSE } from "../node/index.ts";
import { PACKAGE } from "../node/package.ts";
import { readModelFolder } from "../node/model-folder.ts";
import { writeWorkerProject } from "../node/worker-project.ts";
import { startWorker } from "../node/worker-run.ts";
import { candidatesOf } from "./candidates.ts";
import { evaluateModels, reportTable } from "./eval.ts";
import { init } from "./init.ts";
import { DEFAULT_THREADS, wholeNumber } from "./options.ts";
import { quantize } from "./quantize.ts";
import { count, heading, note } from "./terminal.ts";
import { train } from "./train.ts";
import { vocab } from "./vocab.ts";

interface StartOptions {
  readonly corpus?: string;
  readonly output: string;
  readonly steps?: number;
  readonly threads: number;
  readonly port?: number;
  readonly serve: boolean;
}

const PAIRS = join(PACKAGE, "examples/software-pairs.tsv");

/** What a model knows that has seen more than one's own text. */
const BOXED = "simcse-edge-nano";

/** A small corpus is read several times: fewer steps than these teach little. */
const SENTENCES_SEEN = 40_000;

/** More sentences than this would only make the search page start later. */
const INDEXED = 50_000;

export async function start(options: StartOptions): Promise<void> {
  const folder = (name: string): string => relative("", join(options.output, name)) || ".";
  const corpus = options.corpus ?? folder("corpus.txt");
  const untrained = folder("untrained");
  const trained = folder("trained");
  const int8 = folder("int8");
  const tokenizer = folder("tokenizer.json");
  const begun = performance.now();
  await mkdir(options.output, { recursive: true });

  heading(`1. Corpus`);
  if (options.corpus === undefined) {
    const modules = resolve(PACKAGE, "node_modules");
    const collected = await collectCorpus(modules);
    await writeFileAtomic(corpus, new TextEncoder().encode(`${collected.sentences.join("\n")}\n`));
    note(`read ${count(collected.files)} files of the packages installed here`);
  }
  const sentences = await readCorpus(corpus);
  note(`${corpus}: ${count(sentences.length)} sentences`);

  heading(`2. simcse vocab --corpus ${corpus} --output ${tokenizer}`);
  await vocab({ corpus, output: tokenizer, size: 2048, minFrequency: 2 });

  heading(
    `3. simcse init, then simcse train --model ${untrained} --corpus ${corpus} --output ${trained}`,
  );
  await init({
    tokenizer,
    output: untrained,
    layers: 2,
    hidden: 128,
    heads: 4,
    intermediate: 512,
    maxLength: 64,
    pooling: "avg",
    dropout: 0.4,
    seed: 42,
  });
  await train({
    model: untrained,
    corpus,
    output: trained,
    epochs: Math.max(1, SENTENCES_SEEN / sentences.length),
    ...(options.steps === undefined ? {} : { steps: options.steps }),
    batchSize: 64,
    learningRate: 1e-3,
    warmup: 0.05,
    weightDecay: 0.01,
    temperature: 0.1,
    maxGradientNorm: 1,
    maxLength: 32,
    seed: 42,
    threads: options.threads,
    checkpointEvery: 100,
    // An interrupted start goes on where it stopped, unless the corpus or an option has changed.
    resume: true,
    force: true,
  });

  heading(`4. simcse quantize --model ${trained} --output ${int8}`);
  await quantize({ model: trained, output: int8, dtype: "int8" });

  heading(
    `5. simcse eval --model ${untrained} ${trained} ${int8} ${BOXED} --pairs ${relative("", PAIRS)}`,
  );
  const models = [untrained, trained, int8, BOXED];
  const reports = await evaluateModels(await candidatesOf({ model: models }), PAIRS);
  console.log(reportTable(["untrained", "trained", "trained, int8", BOXED], reports));
  const [before, after] = reports as [(typeof reports)[0], (typeof reports)[0]];
  const beats = (name: string, score: number): string =>
    after.spearman > score
      ? `beats ${name} by ${(after.spearman - score).toFixed(2)} points`
      : `does NOT beat ${name}: ${(score - after.spearman).toFixed(2)} points behind`;
  note(
    `the trained model ${beats("word overlap", after.overlapSpearman)} and ${beats("the untrained one", before.spearman)}`,
  );

  heading(`6. A Worker`);
  const project = join(options.output, "worker");
  const texts = sentences.slice(0, INDEXED);
  {
    await using model = await SimCSE.load(int8, { threads: options.threads });
    const index = await model.buildIndex(texts, { precision: "int8" });
    await writeWorkerProject(project, {
      model: await readModelFolder(int8),
      index: await index.serialize(),
    });
  }
  const worker = await startWorker(project, {
    variables: { PUBLIC: "true" },
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
    .description("all of it: corpus, vocabulary, training, evaluation, int8, Worker")
    .option(
      "--corpus <file>",
      "your own text, one sentence a line; default: the documentation of the installed packages",
    )
    .option("--output <folder>", "folder for everything that is made", "runs/start")
    .option("--steps <n>", "training steps, instead of epochs", wholeNumber(1))
    .option("--threads <n>", "threads", wholeNumber(1), DEFAULT_THREADS)
    .option("--port <n>", "port of the Worker", wholeNumber(1))
    .option("--no-serve", "end after one request instead of serving")
    .action((options: StartOptions) => start(options));
}
