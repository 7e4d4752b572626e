/** Evaluation data that was cut off, or damaged, wherever it can be: an error names the file and the line. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { readWordVectors } from "../../src/evaluate/word-vectors.ts";
import { readStsTask, readTransferTask } from "../../src/node/eval-data.ts";
import { readPairs } from "../../src/node/pairs-file.ts";
import { readRetrieval } from "../../src/node/retrieval-data.ts";
import { readLines } from "../../src/node/text-files.ts";
import { GRADED_PARQUET } from "./parquet.ts";

const root = mkdtempSync(join(tmpdir(), "simcse-damaged-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

interface Reader {
  /** Whole files by their paths, lines of them; damage is done to the first. */
  readonly files: Readonly<Record<string, readonly string[]>>;
  readonly read: (folder: string) => Promise<unknown>;
  /** Lines before the first whose damage can be told. */
  readonly header?: number;
  readonly optionalHeader?: boolean;
  /** A line as it is after a cut that can be told: up to its first tab unless said. */
  readonly cut?: (line: string) => string;
  /** Something that stands for a number, or a class, in a line, and is none. */
  readonly wrong?: (line: string) => string;
  /** SentEval's files may be Latin-1. */
  readonly latin1?: boolean;
  /** Any text is data, so that only what is no text can be told. */
  readonly anyText?: boolean;
}

const ROWS = [
  ["4.5", "A naïve man plays.", "A man is playing 漢."],
  ["0", "A café cat.", "A plane."],
  ["2.25", "Two dogs run.", "A dog runs."],
] as const;
const tabs = (columns: (row: (typeof ROWS)[number], i: number) => readonly string[]): string[] =>
  ROWS.map((row, i) => columns(row, i).join("\t"));
const graded = tabs((row) => row);
const firstField = (line: string): string => line.split("\t", 1)[0]!;
const half = (line: string): string => line.slice(0, line.length >> 1);
const gradedWrong = (line: string): string => line.replace(/^[\d.]+/, "four");

const VECTORS = ["the 0.1 0.2 0.3", ". . . 1 2 3", "naïve 1e-2 -2 3"];
const wordVectors = async (folder: string): Promise<unknown> => {
  const file = join(folder, "words.txt");
  return readWordVectors(readLines(file), new Set(["the", ".", "naïve"]), file);
};

const READERS: Record<string, Reader> = {
  "tab-separated pairs": {
    files: { "pairs.tsv": graded },
    read: (folder) => readPairs(join(folder, "pairs.tsv")),
    wrong: gradedWrong,
  },
  "pairs under a header": {
    files: {
      "pairs.tsv": ["id\tsentence2\tsentence1\tscore", ...tabs(([s, a, b]) => ["7", b, a, s])],
    },
    read: (folder) => readPairs(join(folder, "pairs.tsv")),
    header: 1,
    wrong: (line) => line.replace(/[\d.]+$/, "4,5"),
  },
  "comma-separated pairs": {
    files: { "pairs.csv": ROWS.map(([s, a, b]) => `${s},"${a}","${b}"`) },
    read: (folder) => readPairs(join(folder, "pairs.csv")),
    cut: (line) => line.slice(0, -1),
    wrong: gradedWrong,
  },
  "JSON Lines of pairs": {
    files: {
      "pairs.jsonl": ROWS.map(([score, sentence1, sentence2]) =>
        JSON.stringify({ score: Number(score), sentence1, sentence2 }),
      ),
    },
    read: (folder) => readPairs(join(folder, "pairs.jsonl")),
    cut: half,
    wrong: (line) => line.replace(/:[\d.]+/, ":true"),
  },
  "the plain layout of STS": {
    files: { "sts/stsb/test.tsv": graded },
    read: (folder) => readStsTask(folder, "STS-B", "test"),
    wrong: gradedWrong,
    latin1: true,
  },
  "SentEval's STS-B": {
    files: {
      "STS/STSBenchmark/sts-test.csv": tabs((row) => ["main", "news", "2012", "1", ...row]),
    },
    read: (folder) => readStsTask(folder, "STS-B", "test"),
    wrong: (line) => line.replace(/\t[\d.]+\t(?=\D)/, "\tfour\t"),
    latin1: true,
  },
  "SentEval's SICK-R": {
    files: {
      "SICK/SICK_test_annotated.txt": [
        "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment",
        ...tabs(([s, a, b], i) => [`${i}`, a, b, s, "NEUTRAL"]),
      ],
    },
    read: (folder) => readStsTask(folder, "SICK-R", "test"),
    header: 1,
    wrong: (line) => line.replace(/[\d.]+\tNEUTRAL$/, "four\tNEUTRAL"),
    latin1: true,
  },
  "sentences of a year of SentEval's": {
    files: {
      "STS/STS13-en-test/STS.input.FNWN.txt": tabs(([, a, b]) => [a, b]),
      "STS/STS13-en-test/STS.gs.FNWN.txt": tabs(([s]) => [s]),
      "sts/sts13/headlines.tsv": graded,
      "sts/sts13/OnWN.tsv": graded,
    },
    read: (folder) => readStsTask(folder, "STS13", "test"),
    latin1: true,
  },
  MR: {
    files: {
      "MR/rt-polarity.pos": ROWS.map(([, a]) => a),
      "MR/rt-polarity.neg": ROWS.map(([, , b]) => b),
    },
    read: (folder) => readTransferTask(folder, "MR"),
    latin1: true,
    anyText: true,
  },
  SST2: {
    files: Object.fromEntries(
      ["train", "dev", "test"].map((split) => [
        `SST/binary/sentiment-${split}`,
        tabs(([, a], i) => [a, `${i % 2}`]),
      ]),
    ),
    read: (folder) => readTransferTask(folder, "SST2"),
    wrong: (line) => line.replace(/.$/, "2"),
    latin1: true,
  },
  TREC: {
    files: {
      "TREC/train_5500.label": ["NUM:dist How far naïve ?", "HUM:ind Who 漢 ?", "LOC:city Where ?"],
      "TREC/TREC_10.label": ["NUM:dist How far ?", "HUM:ind Who ?"],
    },
    read: (folder) => readTransferTask(folder, "TREC"),
    cut: (line) => line.split(" ", 1)[0]!,
    wrong: (line) => line.replace(/^[A-Z]+/, "WHY"),
    latin1: true,
  },
  MRPC: {
    files: Object.fromEntries(
      ["train", "test"].map((split) => [
        `MRPC/msr_paraphrase_${split}.txt`,
        [
          "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
          ...tabs(([, a, b], i) => [`${i % 2}`, "7", "8", a, b]),
        ],
      ]),
    ),
    read: (folder) => readTransferTask(folder, "MRPC"),
    header: 1,
    wrong: (line) => line.replace(/^\d/, "yes"),
    latin1: true,
  },
  "SICK-E": {
    files: Object.fromEntries(
      ["SICK_train", "SICK_trial", "SICK_test_annotated"].map((name) => [
        `SICK/${name}.txt`,
        [
          "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment",
          ...tabs(([s, a, b], i) => [`${i}`, a, b, s, ["NEUTRAL", "ENTAILMENT"][i % 2]!]),
        ],
      ]),
    ),
    read: (folder) => readTransferTask(folder, "SICK-E"),
    header: 1,
    wrong: (line) => line.replace(/[A-Z]+$/, "MAYBE"),
    latin1: true,
  },
  ...Object.fromEntries(
    ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"].map((first, i): [string, Reader] => {
      const files: Record<string, readonly string[]> = {
        "corpus.jsonl": ROWS.map(([, text], n) => JSON.stringify({ _id: `d${n}`, text })),
        "queries.jsonl": ROWS.map(([, , text], n) => JSON.stringify({ _id: `q${n}`, text })),
        "qrels/test.tsv": ["query-id\tcorpus-id\tscore", "q0\td0\t1", "q1\td1\t2", "q2\td2\t1"],
      };
      const reader = {
        files: { [first]: files[first]!, ...files },
        read: (folder: string) => readRetrieval(folder, "test"),
      };
      return [
        `BEIR's ${first}`,
        i < 2
          ? { ...reader, cut: half, wrong: (line) => line.replace(/"[dq]\d"/, "7") }
          : { ...reader, header: 1, wrong: (line) => line.replace(/\d$/, "high") },
      ];
    }),
  ),
  "GloVe's vectors": {
    files: { "words.txt": VECTORS },
    read: wordVectors,
    header: 1, // of which the others have the length
    optionalHeader: true,
    cut: (line) => line.slice(0, line.lastIndexOf(" ")),
    wrong: (line) => line.replace(/\S+$/, "x"),
  },
  "word2vec's vectors": {
    files: { "words.txt": ["3 3", ...VECTORS] },
    read: wordVectors,
    header: 1,
    optionalHeader: true,
    cut: (line) => line.slice(0, line.lastIndexOf(" ")),
    wrong: (line) => line.replace(/\S+$/, "x"),
  },
};

function bytesOf(files: Reader["files"]): Record<string, Buffer> {
  return Object.fromEntries(
    Object.entries(files).map(([file, lines]) => [file, Buffer.from(lines.join("\n"))]),
  );
}

let folders = 0;
function write(files: Readonly<Record<string, Uint8Array>>): string {
  const folder = join(root, `${folders++}`);
  for (const [name, bytes] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), bytes);
  }
  return folder;
}

interface Damage {
  readonly what: string;
  readonly bytes: Uint8Array;
  /** Undefined where no line can be named. */
  readonly line: number | undefined;
}

/** Everything that can happen to a file and can be told. */
function* damages({ files, header = 0, cut = firstField, ...reader }: Reader): Generator<Damage> {
  const lines = Object.values(files)[0]!;
  const bytes = (content: readonly string[]): Buffer => Buffer.from(`${content.join("\n")}\n`);
  const whole = bytes(lines);
  const replaced = (i: number, line: string): string[] => lines.with(i, line);
  yield { what: "empty", bytes: Buffer.alloc(0), line: undefined };
  yield { what: "UTF-16", bytes: Buffer.from(lines.join("\n"), "utf16le"), line: 1 };
  yield { what: "compressed", bytes: gzipSync(bytes(lines)), line: 1 };
  yield { what: "a web page", bytes: bytes(["<!DOCTYPE html>", "<html>", "</html>"]), line: 1 };
  for (let i = header; i < lines.length; i++) {
    const line = i + 1;
    const nul = bytes(replaced(i, `${lines[i]}\0`));
    yield { what: `a NUL in line ${line}`, bytes: nul, line };
    const end = Buffer.byteLength(lines.slice(0, line).join("\n"));
    const strange = Buffer.concat([whole.subarray(0, end), Buffer.of(0xff), whole.subarray(end)]);
    if (!reader.latin1) yield { what: `no UTF-8 in line ${line}`, bytes: strange, line };
    if (reader.anyText) continue;
    const ending = Buffer.from([...lines.slice(0, i), cut(lines[i]!)].join("\n"));
    yield { what: `cut off in line ${line}`, bytes: ending, line };
    yield { what: `line ${line} cut off`, bytes: bytes(replaced(i, cut(lines[i]!))), line };
    if (!reader.wrong) continue;
    const wrong = reader.wrong(lines[i]!);
    expect(wrong).not.toBe(lines[i]);
    yield { what: `${wrong} in line ${line}`, bytes: bytes(replaced(i, wrong)), line };
  }
  const character = whole.findLastIndex((byte) => byte >= 0xc0);
  if (character > 0) {
    const line = whole.subarray(0, character).toString().split("\n").length;
    yield { what: "cut off within a character", bytes: whole.subarray(0, character + 1), line };
  }
  if (header > 0 && !reader.optionalHeader) {
    yield { what: "without its header", bytes: bytes(lines.slice(header)), line: 1 };
  }
}

describe.each(Object.entries(READERS))("%s", (_, reader) => {
  const name = Object.keys(reader.files)[0]!;
  const whole = bytesOf(reader.files);

  it("are read where they are whole", async () => {
    expect(await reader.read(write(whole))).toBeDefined();
  });

  it.each([...damages(reader)])("$what: refused", async ({ bytes, line }) => {
    const folder = write({ ...whole, [name]: bytes });
    const error = await reader.read(folder).then(
      () => expect.fail("it was read"),
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(FormatError);
    const where = join(folder, name) + (line === undefined ? ":" : `:${line}: `);
    expect((error as Error).message.slice(0, where.length)).toBe(where);
  });
});

describe("what only some readers can tell", () => {
  const sts = READERS["sentences of a year of SentEval's"]!;
  const refused = async (reader: Reader, changed: Reader["files"]): Promise<string> => {
    const folder = write({ ...bytesOf(reader.files), ...bytesOf(changed) });
    const error: unknown = await reader.read(folder).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(FormatError);
    return (error as Error).message.replace(`${folder}/`, "");
  };

  it("scores of a year that end before its sentences", async () => {
    const file = "STS/STS13-en-test/STS.gs.FNWN.txt";
    expect(await refused(sts, { [file]: ["4.5", "0"] })).toMatch(`${file}:2: the file ends here`);
    expect(await refused(sts, { [file]: ["4.5", "x", "0"] })).toMatch(
      "STS.input.FNWN.txt:2: the score must",
    );
  });

  it("a word2vec file that ends before the words it promises", async () => {
    const reader = READERS["word2vec's vectors"]!;
    const text = ["3 3", ...VECTORS.slice(0, 2)];
    expect(await refused(reader, { "words.txt": text })).toBe(
      "words.txt:3: the file ends after 2 words, its first line promises 3; is it cut off?",
    );
  });

  it("GloVe's last line, also of a word that nobody wants", async () => {
    const reader = READERS["GloVe's vectors"]!;
    const text = [...VECTORS, "unwanted 1 2"];
    expect(await refused(reader, { "words.txt": text })).toMatch(
      "words.txt:4: expected a word and 3",
    );
  });

  it("examples of one class", async () => {
    const text = ["good\t1", "fine\t1"];
    expect(await refused(READERS["SST2"]!, { "SST/binary/sentiment-train": text })).toMatch(
      /^SST\/binary\/sentiment-train: expected sentences of 2 classes at least, found 2 of one/,
    );
  });

  it("Parquet that ends anywhere, or whose pages are damaged", async () => {
    const bytes = Buffer.from(GRADED_PARQUET, "base64");
    expect((await readPairs(join(write({ "a.parquet": bytes }), "a.parquet"))).pairs).toHaveLength(
      2,
    );
    for (let end = 0; end < bytes.length; end += 16) {
      const file = join(write({ "a.parquet": bytes.subarray(0, end) }), "a.parquet");
      const error: unknown = await readPairs(file).catch((reason: unknown) => reason);
      expect(error, `${end} bytes`).toBeInstanceOf(FormatError);
      expect((error as Error).message.startsWith(file)).toBe(true);
    }
  });

  it("compressed text that ends anywhere", async () => {
    const bytes = gzipSync(Array.from({ length: 99 }, (_, i) => `${i % 5}\ta ${i}\tb`).join("\n"));
    for (let end = 1; end < bytes.length; end += 16) {
      const file = join(write({ "a.tsv.gz": bytes.subarray(0, end) }), "a.tsv.gz");
      const error: unknown = await readPairs(file).catch((reason: unknown) => reason);
      expect(error, `${end} bytes`).toBeInstanceOf(FormatError);
      expect((error as Error).message).toMatch(/a\.tsv\.gz:\d+: expected what its extension says/);
    }
  });
});
