/** Finds and reads evaluation data: folders in SentEval's own layout, or in the plain one of tab-separated files. */
import { join } from "node:path";
import { readFile } from "node:fs/promises";
import { FormatError } from "../errors.ts";
import { type GradedPairs, parsePairs } from "../evaluate/pairs.ts";
import {
  parseSick,
  parseStsBenchmark,
  parseStsYear,
  STS_SUBSETS,
  type StsTask,
} from "../evaluate/sts.ts";
import {
  type LabelledTexts,
  parseClassFile,
  parseMrpc,
  parseSickEntailment,
  parseSst,
  parseTrec,
  type TransferData,
  type TransferTask,
} from "../evaluate/transfer.ts";

export type Split = "dev" | "test";

/** A task's data, or what would have to be there. */
export type Found<T> = { readonly data: T } | { readonly missing: readonly string[] };

/** Where the folder of a task may lie under what the user gave. */
const PARENTS = ["", "sts", "STS", "transfer", "downstream", "downstream/STS"];

/** SICK's names of the splits in SentEval. */
const SICK_FILES = { dev: "SICK_trial.txt", test: "SICK_test_annotated.txt" } as const;

/**
 * Reads the subsets of a task; STS-B and SICK-R are a single one. A year has only a test split, whatever `split` says, and is
 * missing as long as one of its subsets is: its score would not be comparable.
 * @throws FormatError naming file and line of what is malformed
 */
export async function readStsTask(
  folder: string,
  task: StsTask,
  split: Split,
): Promise<Found<ReadonlyMap<string, GradedPairs>>> {
  const plain = task.toLowerCase().replace("-", "");
  const subsets = STS_SUBSETS[task];
  if (subsets === undefined) {
    const own =
      (await readTable(folder, `${plain}/${split}.tsv`, parsePairs)) ??
      (task === "STS-B"
        ? await readTable(folder, `STSBenchmark/sts-${split}.csv`, parseStsBenchmark)
        : await readTable(folder, `SICK/${SICK_FILES[split]}`, parseSick));
    return own === undefined
      ? { missing: [`${task} ${split}`] }
      : { data: new Map([[split, own]]) };
  }
  const found = new Map<string, GradedPairs>();
  for (const subset of subsets) {
    const own =
      (await readTable(folder, `${plain}/${subset}.tsv`, parsePairs)) ??
      (await readYear(folder, `${task}-en-test`, subset));
    if (own !== undefined) found.set(subset, own);
  }
  if (found.size === subsets.length) return { data: found };
  if (found.size === 0) return { missing: [task] };
  return { missing: subsets.filter((name) => !found.has(name)).map((name) => `${task}/${name}`) };
}

async function readYear(
  folder: string,
  year: string,
  subset: string,
): Promise<GradedPairs | undefined> {
  const input = await readFirst(folder, `${year}/STS.input.${subset}.txt`);
  const gold = await readFirst(folder, `${year}/STS.gs.${subset}.txt`);
  return input && gold && parseStsYear(input, gold);
}

/** A file of SentEval's, the class of its lines where a file holds one, and how it is read. */
type Part = readonly [file: string, parse: (text: string, name: string) => LabelledTexts];

const classes = (...files: string[]): Part[] =>
  files.map((file, label) => [file, (text, name) => parseClassFile(text, label, name)]);

const TRANSFER_FILES: Readonly<Record<TransferTask, TransferData<readonly Part[]>>> = {
  MR: { train: classes("MR/rt-polarity.neg", "MR/rt-polarity.pos") },
  CR: { train: classes("CR/custrev.neg", "CR/custrev.pos") },
  SUBJ: { train: classes("SUBJ/subj.subjective", "SUBJ/subj.objective") },
  MPQA: { train: classes("MPQA/mpqa.neg", "MPQA/mpqa.pos") },
  SST2: {
    train: [["SST/binary/sentiment-train", parseSst]],
    dev: [["SST/binary/sentiment-dev", parseSst]],
    test: [["SST/binary/sentiment-test", parseSst]],
  },
  TREC: {
    train: [["TREC/train_5500.label", parseTrec]],
    test: [["TREC/TREC_10.label", parseTrec]],
  },
  MRPC: {
    train: [["MRPC/msr_paraphrase_train.txt", parseMrpc]],
    test: [["MRPC/msr_paraphrase_test.txt", parseMrpc]],
  },
  "SICK-E": {
    train: [["SICK/SICK_train.txt", parseSickEntailment]],
    dev: [[`SICK/${SICK_FILES.dev}`, parseSickEntailment]],
    test: [[`SICK/${SICK_FILES.test}`, parseSickEntailment]],
  },
};

/**
 * Reads a transfer task under SentEval's file names.
 * @throws FormatError naming file and line of what is malformed
 */
export async function readTransferTask(
  folder: string,
  task: TransferTask,
): Promise<Found<TransferData>> {
  const missing: string[] = [];
  const read = async (parts: readonly Part[]): Promise<LabelledTexts> => {
    const texts: (readonly string[])[] = [];
    const labels: number[] = [];
    for (const [file, parse] of parts) {
      const part = await readTable(folder, file, parse);
      if (part === undefined) missing.push(file);
      // One by one: a spread of so many arguments overflows the stack.
      part?.texts.forEach((text) => texts.push(text));
      part?.labels.forEach((label) => labels.push(label));
    }
    return { texts, labels };
  };
  const { train, dev, test } = TRANSFER_FILES[task];
  const data = {
    train: await read(train),
    ...(dev && { dev: await read(dev) }),
    ...(test && { test: await read(test) }),
  };
  if (missing.length === 0) return { data };
  const parts = [train, dev, test].reduce((sum, list) => sum + (list?.length ?? 0), 0);
  return { missing: missing.length === parts ? [task] : missing };
}

async function readTable<T>(
  folder: string,
  file: string,
  parse: (text: string, name: string) => T,
): Promise<T | undefined> {
  const found = await readFirst(folder, file);
  return found && parse(found.text, found.name);
}

/** The first of the places where a file may be; undefined if it is in none. */
async function readFirst(
  folder: string,
  file: string,
): Promise<{ text: string; name: string } | undefined> {
  for (const parent of PARENTS) {
    const name = join(folder, parent, file);
    const bytes = await readFile(name).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined;
      throw new Error(`${name}: cannot be read (${error.message}); expected evaluation data`, {
        cause: error,
      });
    });
    if (bytes !== undefined) return { text: decode(bytes, name), name };
  }
  return undefined;
}

/** UTF-8, or Latin-1, in which some of SentEval's files are; neither has a NUL, nor is a web page among them. */
function decode(bytes: Buffer, name: string): string {
  const text = decodeUtf8(bytes, name) ?? new TextDecoder("latin1").decode(bytes);
  const nul = text.indexOf("\0");
  if (nul >= 0) refuse(name, text.slice(0, nul), "a NUL");
  if (/^\s*<(?:!doctype|html)\b/i.test(text)) refuse(name, "", "a web page");
  return text;
}

/** Undefined for what is not UTF-8. */
function decodeUtf8(bytes: Buffer, name: string): string | undefined {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let text: string | undefined;
  try {
    text = decoder.decode(bytes, { stream: true });
    return text + decoder.decode();
  } catch {
    // Where other characters beyond ASCII are right, the last one is not of Latin-1, but half of one.
    if (text === undefined || !/\P{ASCII}/u.test(text)) return undefined;
    return refuse(name, text, "the end of the file within a character");
  }
}

function refuse(name: string, before: string, found: string): never {
  throw new FormatError(
    `${name}:${before.split("\n").length}: found ${found}, expected evaluation data; download the file again`,
  );
}
