/** What `simcse train` reads before it trains: rows, graded pairs, synonyms. */
import { FormatError, UsageError } from "../errors.ts";
import type { GradedPair } from "../evaluate/pairs.ts";
import { sha256Hex, sha256HexOfParts } from "../files/checksum.ts";
import { MLM_HEAD } from "../model/parameters.ts";
import { hasWeight } from "../model/weights.ts";
import { FillMask } from "../model/fill-mask.ts";
import { compileKernels } from "../node/binaries.ts";
import { readFileOr } from "../node/files.ts";
import type { ModelFolder } from "../node/model-folder.ts";
import { readPairs } from "../node/pairs-file.ts";
import { openRows, openText } from "../node/rows.ts";
import { Teachers } from "../node/teachers.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import {
  type Augmentation,
  parseAugmentation,
  parseSynonyms,
  planAugmentation,
} from "../train/augment.ts";
import { readSource, Sequences, type Source, type SourceOptions } from "../train/data.ts";
import type { DistillOptions } from "../train/objective.ts";
import { type MaskingOptions, maskingOf } from "../train/masking.ts";
import { shareOf } from "./options.ts";
import { count, note } from "./terminal.ts";
import type { TrainOptions } from "./train-options.ts";

/** A file with columns of its own: `triplets.csv:sent0,sent1`. What follows a drive's colon has no extension before it. */
const OWN_COLUMNS = /^(.+\.\w+):([^/\\]+)$/;

/** Reads and tokenizes all files, and says what became of their rows. */
export async function readData(
  { train: files = [], corpus, columns, neighbours, maxLength }: TrainOptions,
  tokenizer: Tokenizer,
  more: Pick<SourceOptions, "ignoredId" | "onSentence">,
): Promise<{ sentences: Sequences; sources: Source[] }> {
  const inputs = files.map((text) => {
    const { name: file, share } = shareOf("--train", text);
    const [, name = file, own] = OWN_COLUMNS.exec(file) ?? [];
    return { name, share, open: () => openRows(name, own?.split(",") ?? columns) };
  });
  if (corpus !== undefined) {
    inputs.push({ name: corpus, share: undefined, open: async () => openText(corpus) });
  }
  if (inputs.length === 0) {
    throw new UsageError(
      "nothing to train on; give one or more --train <file>, or --corpus <file>",
    );
  }
  const without = inputs.find(({ share }) => share === undefined);
  if (without && inputs.some(({ share }) => share !== undefined)) {
    throw new UsageError(
      `${without.name}: expected a share (--train ${without.name}:0.5), as another file has one`,
    );
  }
  const sentences = new Sequences();
  const sources: Source[] = [];
  for (const { name, share, open } of inputs) {
    const opened = await open();
    const { source, report } = await readSource(opened.rows, tokenizer, sentences, {
      name,
      maxLength,
      ...(share !== undefined && { share }),
      ...(neighbours !== undefined && { neighbours }),
      ...more,
    });
    const { rows, dropped, truncated, duplicates } = report;
    const named = opened.columns.join(", ");
    note(
      `${name}: ${count(rows)} ${named === "" ? "sentences" : `rows (${named})`}; ${count(truncated)} cut to ` +
        `${maxLength} tokens, ${count(duplicates)} duplicates (never each other's negatives), ${count(dropped)} dropped`,
    );
    if (rows < 2) {
      throw new FormatError(
        `${name}: expected two or more rows, as one has no negatives, found ${rows} of text`,
      );
    }
    sources.push(source);
  }
  return { sentences, sources };
}

/** STS's grade of pairs that mean the same. */
const HIGHEST = 5;

/** The pairs to measure weights by; those without grades all have the highest, which ranks nothing. */
export async function readDev({
  dev,
  devPairs,
  evalEvery,
  patience,
}: TrainOptions): Promise<{ pairs: readonly GradedPair[]; sha256: string } | null> {
  const file = dev ?? devPairs;
  if (dev !== undefined && devPairs !== undefined) {
    throw new UsageError(`--dev-pairs ${devPairs}: expected no --dev beside it`);
  }
  if (patience !== undefined && dev === undefined) {
    throw new UsageError("--patience needs graded pairs; give --dev <file>");
  }
  if (file === undefined) {
    if (evalEvery === undefined) return null;
    throw new UsageError("--eval-every needs pairs; give --dev <file> or --dev-pairs <file>");
  }
  const pairs = dev === undefined ? await readPositives(file) : (await readPairs(file)).pairs;
  return { pairs, sha256: await sha256Hex(await readFileOr(file, "sentence pairs")) };
}

async function readPositives(file: string): Promise<GradedPair[]> {
  const { columns, rows } = await openRows(file);
  if (columns.length !== 2) {
    throw new FormatError(
      `${file}: expected two columns, pairs that mean the same, found ${columns.join(", ") || "one"}; ` +
        `graded pairs are for --dev`,
    );
  }
  const pairs: GradedPair[] = [];
  for await (const { cells, line } of rows) {
    const [a, b] = cells.map((text) => text.trim());
    if (!a || !b) throw new FormatError(`${file}:${line}: expected two sentences, found one empty`);
    pairs.push({ score: HIGHEST, a, b });
  }
  if (pairs.length < 2) {
    throw new FormatError(`${file}: expected two or more pairs, found ${pairs.length}`);
  }
  return pairs;
}

/** How many different sentences have i tokens. */
export function sentenceLengths(sentences: Sequences, maxLength: number): number[] {
  const lengths = Array.from({ length: maxLength + 1 }, () => 0);
  for (let i = 0; i < sentences.size; i++) lengths[sentences.get(i).length]!++;
  return lengths;
}

/** The augmentation of positives that the options ask for, and its name in a checkpoint. */
export async function readAugmentation(
  { augment, maxLength }: TrainOptions,
  tokenizer: Tokenizer,
  sources: readonly Source[],
  folder: ModelFolder,
): Promise<{ augmentation?: Augmentation; name?: string }> {
  if (augment === undefined) return {};
  const spec = parseAugmentation(augment);
  if (!sources.some(({ unsupervised }) => unsupervised)) {
    throw new UsageError(
      `--augment ${augment}: expected a file of one column, whose sentences are their own positives; ` +
        `leave it out, or --neighbours`,
    );
  }
  if (spec.kind === "mlm") {
    const { config, tensors, weightsFile } = folder;
    if (config.table || !hasWeight(tensors, `${MLM_HEAD}bias`)) {
      throw new UsageError(
        `--augment ${augment}: expected a --model with the head of a masked language model, found none in ${weightsFile}; ` +
          `--objective mlm makes one, mask:${spec.percent} needs none`,
      );
    }
    const module = await compileKernels("node");
    const { special: banned } = maskingOf(tokenizer, spec.percent / 100);
    const filler = new FillMask(module, config.encoder, tensors, weightsFile, maxLength, banned);
    const fill = filler.fill.bind(filler);
    return {
      augmentation: planAugmentation(spec, tokenizer, maxLength, { fill }),
      name: `${augment}:${await sha256HexOfParts([...tensors.values()].map(({ data }) => data))}`,
    };
  }
  if (spec.kind !== "synonym") {
    return { augmentation: planAugmentation(spec, tokenizer, maxLength), name: augment };
  }
  const bytes = await readFileOr(spec.file, "a word and its synonyms a line, with tabs");
  const synonyms = parseSynonyms(new TextDecoder().decode(bytes), spec.file, tokenizer);
  note(`${spec.file}: synonyms of ${count(synonyms.size)} words`);
  return {
    augmentation: planAugmentation(spec, tokenizer, maxLength, { synonyms }),
    name: `synonym:${await sha256Hex(bytes)}`,
  };
}

/** BERT's. */
const MASKED = 0.15;

/** What is masked and how much guessing it weighs; undefined where nothing is guessed. */
export function readMasking(
  { objective, mlmWeight = 0, mlmProbability, augment, matryoshka, symmetric }: TrainOptions,
  tokenizer: Tokenizer,
  isStatic: boolean,
): { masking: MaskingOptions; weight: number } | undefined {
  const alone = objective === "mlm";
  const useless = alone && {
    "--mlm-weight": mlmWeight > 0,
    "--augment": augment !== undefined,
    "--matryoshka": matryoshka !== undefined,
    "--symmetric": symmetric,
  };
  for (const [option, given] of Object.entries(useless || {})) {
    if (given)
      throw new UsageError(`--objective mlm: expected no ${option}, as nothing is compared`);
  }
  if (!alone && mlmWeight === 0) {
    if (mlmProbability === undefined) return undefined;
    throw new UsageError(
      "--mlm-probability: nothing is masked without --mlm-weight or --objective mlm",
    );
  }
  const option = alone ? "--objective mlm" : `--mlm-weight ${mlmWeight}`;
  if (isStatic) {
    throw new UsageError(
      `${option}: expected an encoder, as a static model sees no context to guess from`,
    );
  }
  if (tokenizer.maskId < 0) {
    throw new UsageError(`${option}: expected a tokenizer with [MASK], found none in the model's`);
  }
  return { masking: maskingOf(tokenizer, mlmProbability ?? MASKED), weight: alone ? 1 : mlmWeight };
}

/** The teachers, opened, and what is learned from them; undefined where there are none. */
export async function readTeachers(
  options: TrainOptions,
  hidden: number,
): Promise<{ teachers: Teachers; distill: DistillOptions } | undefined> {
  const { objective, teacher: folders = [], distill: kind = "similarity", threads } = options;
  const { distillWeight: weight = 1, distillTemperature: temperature = 0.05 } = options;
  if (folders.length === 0) {
    const needs = {
      "--objective distill": objective === "distill",
      "--distill": options.distill !== undefined,
      "--distill-weight": options.distillWeight !== undefined,
      "--distill-temperature": options.distillTemperature !== undefined,
    };
    for (const [option, given] of Object.entries(needs)) {
      if (given)
        throw new UsageError(`${option}: expected a model to learn from; give --teacher <folder>`);
    }
    return undefined;
  }
  if (objective === "mlm") {
    throw new UsageError("--teacher: expected no --objective mlm, as nothing is compared");
  }
  if (kind === "mse" && folders.length > 1) {
    throw new UsageError(
      `--distill mse: expected one --teacher, found ${folders.length}; several are learned from by --distill similarity`,
    );
  }
  const teachers = await Teachers.open(folders, threads);
  const { dimension } = teachers;
  if (kind === "mse" && dimension !== hidden) {
    await teachers.close();
    throw new UsageError(
      `--distill mse: ${folders[0]} has vectors of ${dimension} numbers, the model of ${hidden}; use --distill similarity`,
    );
  }
  return { teachers, distill: { kind, weight, temperature, dimension } };
}
