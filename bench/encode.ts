/**
 * Texts to vectors, beside other runtimes. `SIMCSE_PEERS` names a folder with `node_modules/onnxruntime-web`,
 * `models/<size>/model.onnx` and `onnx-int8/<size>.onnx`; `SIMCSE_PYTHON` a Python with PyTorch. Without them only our rows are printed.
 * `SIMCSE_STSB` names STS-B dev (score, sentence, sentence with tabs), and `SIMCSE_VOCAB` the vocab.txt of BERT.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Dtype, ModelConfig } from "../src/model/config.ts";
import { planParameters } from "../src/model/parameters.ts";
import { storeWeights } from "../src/model/weights.ts";
import { compileKernels } from "../src/node/binaries.ts";
import { SimCSE, writeModelFolder } from "../src/node/index.ts";
import { readPairs } from "../src/node/pairs-file.ts";
import { quantizeModel } from "../src/quantize/quantize.ts";
import { Arena } from "../src/runtime/arena.ts";
import { tokenizerFromVocab } from "../src/tokenizer/vocab.ts";
import { initializeWeights } from "../src/train/initialize.ts";
import { figure, type Table } from "./measure.ts";
import { type Batch, installed, openSession, PEERS } from "./onnxruntime.ts";
import { sentences } from "./step.ts";

const PYTHON = process.env["SIMCSE_PYTHON"];
const STSB = process.env["SIMCSE_STSB"];
const BERT_VOCAB = process.env["SIMCSE_VOCAB"];
const VOCAB = 30522;
const SIZES = { minilm: [6, 384, 12], base: [12, 768, 12] } as const;
type Size = keyof typeof SIZES;
/** Those of which a folder is written; others are made of f32 while it loads. */
type Written = "f32" | "int8";
const ROUNDS = 7;
/** V8 replaces what it compiled first while that runs. */
const WARM_SECONDS = 1;
const ROUND_SECONDS = 0.25;

interface Case {
  readonly name: string;
  /** Texts of a run. */
  readonly texts: number;
  readonly run: () => Promise<unknown>;
}

/** Folders of a model of random weights, in f32 and int8. */
async function writeModels(
  directory: string,
  size: Size,
  vocab: string,
): Promise<Record<Written, string>> {
  const [numLayers, hiddenSize, numHeads] = SIZES[size];
  // prettier-ignore
  const encoder = { vocabSize: VOCAB, hiddenSize, numLayers, numHeads, intermediateSize: 4 * hiddenSize, maxPositions: 512, typeVocabSize: 2, layerNormEpsilon: 1e-12, hiddenDropout: 0.1, attentionDropout: 0.1 };
  const config: ModelConfig = { encoder, pooling: "avg", maxLength: 512, dtype: "f32" };
  const arena = new Arena();
  const weights = planParameters(arena, encoder, false);
  const buffer = new ArrayBuffer(arena.top);
  initializeWeights(buffer, weights, 1);
  const tensors = storeWeights(buffer, weights.named);
  const tokenizerJson = tokenizerFromVocab(vocab, {}, "vocab.txt");
  const folders = { f32: join(directory, size), int8: join(directory, `${size}-int8`) };
  await writeModelFolder(folders.f32, { config, tokenizerJson, tensors });
  const int8 = quantizeModel(await compileKernels("node"), config, new Map(tensors), size);
  await writeModelFolder(folders.int8, { ...int8, tokenizerJson });
  return folders;
}

const PIECES = Array.from({ length: VOCAB - 5 }, (_, i) => `piece${i}`);
const NO_VOCAB: string = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ...PIECES].join("\n");

/** What `use` gives of models of random weights, which are gone afterwards. */
export async function* withModels<T>(
  size: Size,
  use: (folders: Record<Written, string>, directory: string) => AsyncGenerator<T>,
  vocab: string = NO_VOCAB,
): AsyncGenerator<T> {
  const directory = mkdtempSync(join(tmpdir(), "simcse-bench-"));
  try {
    yield* use(await writeModels(directory, size, vocab), directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Paths of onnxruntime-web and its model, if they are there. */
export function peer(size: Size, dtype: Dtype): [module: string, file: string] | undefined {
  const module = installed();
  if (!PEERS || !module || dtype === "int4") return undefined;
  const file = join(
    PEERS,
    dtype === "f32" ? `models/${size}/model.onnx` : `onnx-int8/${size}.onnx`,
  );
  return existsSync(file) ? [module, file] : undefined;
}

/** Texts a second of every case, in turn, round after round. */
export async function alternate(cases: readonly Case[]): Promise<Table["rows"]> {
  const timed = async (run: Case["run"], seconds: number): Promise<number> => {
    const begun = performance.now();
    let calls = 0;
    do {
      await run();
      calls++;
    } while (performance.now() - begun < seconds * 1000);
    return (1000 * calls) / (performance.now() - begun);
  };
  for (const { run } of cases) await timed(run, WARM_SECONDS);
  const rates = cases.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, { texts, run }] of cases.entries()) {
      rates[i]!.push(texts * (await timed(run, ROUND_SECONDS)));
    }
  }
  return cases.map(({ name }, i) => figure(name, rates[i]!));
}

const OURS = "simcse-edge, one thread";
const PADDED = "onnxruntime-web, padded";
const PYTORCH = "PyTorch, padded";

/** Tables of a size: each batch in each number format; the batch of many also in pieces, for those who pad. */
async function* tables(
  size: Size,
  dtypes: readonly Dtype[],
  batches: Readonly<Record<string, Batch>>,
): AsyncGenerator<Table> {
  yield* withModels(size, async function* (folders) {
    for (const dtype of dtypes) {
      await using one = await SimCSE.load(folders.f32, { threads: 1, dtype });
      await using two = await SimCSE.load(folders.f32, { threads: 2, dtype });
      await using here = await SimCSE.load(folders.f32, { threads: 0, dtype });
      const paths = peer(size, dtype);
      const session = paths && (await openSession(...paths));
      for (const [title, batch] of Object.entries(batches)) {
        const texts = batch.length;
        const many = texts > 1;
        const cases: Case[] = [{ name: OURS, texts, run: () => one.encode(batch) }];
        if (many) {
          cases.push({ name: "simcse-edge, two threads", texts, run: () => two.encode(batch) });
        } else {
          cases.push({
            name: "simcse-edge, caller's thread",
            texts,
            run: () => here.encode(batch),
          });
        }
        if (session) {
          cases.push({ name: PADDED, texts, run: () => session(batch) });
          const inTurn = async (parts: readonly Batch[]): Promise<void> => {
            for (const part of parts) await session(part);
          };
          const sorted = batch.toSorted((a, b) => a.length - b.length);
          const ofSixteen = [0, 16, 32, 48].map((at) => sorted.slice(at, at + 16));
          const alone = batch.map((ids) => [ids]);
          if (many) {
            const name = "onnxruntime-web, sorted, 16 a batch";
            cases.push({ name, texts, run: () => inTurn(ofSixteen) });
            cases.push({ name: "onnxruntime-web, one by one", texts, run: () => inTurn(alone) });
          }
        }
        const rows = [...(await alternate(cases))];
        if (PYTHON && dtype === "f32") rows.push(pytorch(size, batch));
        const unit = "texts/s";
        yield { title: `${size} ${dtype}, ${title}`, unit, reference: OURS, rows };
      }
    }
  });
}

/** The same batch in PyTorch, padded, by one thread, in a process of its own right after ours. */
function pytorch(size: Size, batch: Batch): Table["rows"][number] {
  const args = ["bench/torch_encode.py", ...SIZES[size], VOCAB].map(String);
  const input = JSON.stringify(batch.map(({ length }) => length));
  const env = { ...process.env, OPENBLAS_NUM_THREADS: "1", OMP_NUM_THREADS: "1" };
  const seconds = JSON.parse(
    execFileSync(PYTHON!, args, { input, env, encoding: "utf8" }),
  ) as number[];
  return figure(
    PYTORCH,
    seconds.map((s) => batch.length / s),
  );
}

export const sentence = (length: number): number[] =>
  Array.from({ length }, (_, i) => 1000 + 7 * i);

/** MiniLM's shape: a sentence of 16 tokens, and 64 of real lengths. */
const MINILM = {
  "one text of 16 tokens": [sentence(16)],
  "64 texts of 6 to 34 tokens": sentences(VOCAB),
};

export function minilm(dtype: Dtype): AsyncGenerator<Table> {
  return tables("minilm", [dtype], MINILM);
}

/** Runs of all of STS-B dev; one takes many seconds. */
const STSB_ROUNDS = 5;
const STSB_BATCH = 64;
/** Batches before the first run. */
const STSB_WARM = 8;

/**
 * The 3,000 sentences of STS-B dev in MiniLM's shape, two threads each: ours from the text, the peer's from token ids made
 * beforehand, in batches of neighbours in length.
 */
export async function* stsb(): AsyncGenerator<Table> {
  if (!STSB || !BERT_VOCAB) {
    console.error("stsb: skipped: needs SIMCSE_STSB and SIMCSE_VOCAB, see bench/README.md");
    return;
  }
  const { pairs } = await readPairs(STSB);
  const texts = pairs.flatMap(({ a, b }) => [a, b]);
  const measured = async function* ({ f32 }: Record<Written, string>): AsyncGenerator<Table> {
    await using model = await SimCSE.load(f32, { threads: 2 });
    const sorted = texts
      .map((text) => [...model.tokenize(text)])
      .toSorted((a, b) => a.length - b.length);
    const batches = Array.from({ length: Math.ceil(sorted.length / STSB_BATCH) }, (_, i) =>
      sorted.slice(i * STSB_BATCH, (i + 1) * STSB_BATCH),
    );
    const ours = "simcse-edge";
    const runs = new Map<string, () => Promise<unknown>>([[ours, () => model.encode(texts)]]);
    const paths = peer("minilm", "f32");
    if (paths) {
      const session = await openSession(...paths, 2);
      const inTurn = async (parts: readonly Batch[]): Promise<void> => {
        for (const part of parts) await session(part);
      };
      runs.set(`onnxruntime-web, sorted, ${STSB_BATCH} a batch`, () => inTurn(batches));
      await inTurn(batches.slice(0, STSB_WARM));
    }
    await model.encode(texts.slice(0, STSB_WARM * STSB_BATCH));
    const rates = new Map([...runs.keys()].map((name) => [name, [] as number[]]));
    for (let round = 0; round < STSB_ROUNDS; round++) {
      for (const [name, run] of runs) {
        const begun = performance.now();
        await run();
        rates.get(name)!.push((1000 * texts.length) / (performance.now() - begun));
      }
    }
    const title = `minilm f32, STS-B dev (${texts.length} sentences), two threads`;
    const rows = [...rates].map(([name, values]) => figure(name, values));
    yield { title, unit: "texts/s", reference: ours, rows };
    const [own, theirs] = [...rates.values()];
    if (theirs === undefined) return;
    const shares = own!.map((rate, i) => (100 * rate) / theirs[i]!);
    yield {
      title: `${title}, round by round`,
      unit: "% of onnxruntime-web",
      reference: ours,
      rows: [figure(ours, shares)],
    };
  };
  yield* withModels("minilm", measured, readFileSync(BERT_VOCAB, "utf8"));
}

/** BERT-base's shape: a sentence of 32 tokens. */
export function base(): AsyncGenerator<Table> {
  return tables("base", ["f32", "int8", "int4"], { "one text of 32 tokens": [sentence(32)] });
}

/**
 * Processes of their own, from their start to the first vector of MiniLM's shape, and the memory they took. They run what `npm
 * pack` would publish: to strip types from our sources takes longer than to load a model.
 */
export async function* start(): AsyncGenerator<Table> {
  const compiler = "node_modules/typescript/bin/tsc";
  execFileSync(process.execPath, [compiler, "-p", "tsconfig.build.json"]);
  execFileSync(process.execPath, ["scripts/copy-assets.ts"]);
  yield* withModels("minilm", async function* (folders, directory) {
    for (const name of ["first", "onnxruntime"]) {
      const program = stripTypeScriptTypes(readFileSync(`bench/${name}.ts`, "utf8"))
        .replace("../src/node/index.ts", new URL("../dist/src/node/index.js", import.meta.url).href)
        .replace("./onnxruntime.ts", "./onnxruntime.mjs");
      writeFileSync(join(directory, `${name}.mjs`), program);
    }
    const first = join(directory, "first.mjs");
    const [module, file] = peer("minilm", "f32") ?? [];
    const names = {
      [OURS]: [first, "ours", folders.f32],
      ...(module && file && { "onnxruntime-web": [first, "onnxruntime", module, file] }),
    };
    const taken: Record<string, { milliseconds: number; megabytes: number }[]> = {};
    const versions: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      for (const [name, args] of Object.entries(names)) {
        const text = execFileSync(process.execPath, args).toString();
        (taken[name] ??= []).push(JSON.parse(text) as (typeof taken)[string][number]);
      }
      const begun = performance.now();
      execFileSync(process.execPath, ["dist/src/cli/main.js", "--version"]);
      versions.push(performance.now() - begun);
    }
    const table = (title: string, unit: string, key: "milliseconds" | "megabytes"): Table => ({
      title,
      unit,
      reference: OURS,
      rows: Object.entries(taken).map(([name, values]) =>
        figure(
          name,
          values.map((value) => value[key]),
        ),
      ),
    });
    yield table("minilm f32, from a process's start to its first vector", "ms", "milliseconds");
    yield table("minilm f32 (90.9 MB), most memory until then", "MB", "megabytes");
    const name = "simcse --version";
    yield { title: "The command", unit: "ms", reference: name, rows: [figure(name, versions)] };
  });
}
