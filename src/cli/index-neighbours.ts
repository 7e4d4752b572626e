/** What the neighbours of an index's texts tell: duplicates, groups, and hard negatives to train with. */
import { type Command, Option } from "commander";
import { UsageError } from "../errors.ts";
import { writeFileAtomic } from "../node/files.ts";
import { openFlatIndex, saveIndex, SimCSE } from "../node/index.ts";
import { openRows } from "../node/rows.ts";
import type { MinedPair, MineOptions, PositivePair } from "../search/text-index.ts";
import { DEFAULT_THREADS, numberBetween, wholeNumber } from "./options.ts";
import { count, note } from "./terminal.ts";

/** The columns that SimCSE's files of triplets have. */
const COLUMNS = ["sent0", "sent1", "hard_neg"] as const;
type Triplet = readonly [anchor: string, positive: string, negative: string];

/** How a line of each kind of file holds a triplet, or the names of its columns. */
const LINES: Readonly<Record<string, (cells: Triplet | typeof COLUMNS) => string>> = {
  csv: (cells) => cells.map((cell) => `"${cell.replaceAll('"', '""')}"`).join(","),
  jsonl: (cells) => JSON.stringify(Object.fromEntries(COLUMNS.map((name, i) => [name, cells[i]]))),
};

interface MineCommandOptions extends MineOptions {
  readonly model: string;
  readonly columns?: readonly string[];
  readonly threads: number;
}

async function mine(
  file: string,
  input: string,
  output: string,
  { model: folder, columns, threads, ...options }: MineCommandOptions,
): Promise<void> {
  const extension = /\.(\w+)$/.exec(output)?.[1] ?? "";
  const line = LINES[extension];
  if (!line || !Object.hasOwn(LINES, extension)) {
    throw new UsageError(`${output}: expected a name that ends in .csv or .jsonl`);
  }
  const opened = await openRows(input, columns);
  if (opened.columns.length < 2) {
    throw new UsageError(
      `${input}: expected two columns, a text and its positive; --columns chooses`,
    );
  }
  const pairs: PositivePair[] = [];
  for await (const { cells } of opened.rows) {
    const [anchor = "", positive = ""] = cells;
    if (anchor !== "" && positive !== "") pairs.push({ anchor, positive });
  }
  await using model = await SimCSE.load(folder, { threads });
  const index = await model.loadIndex(file);
  const mined = await index.mine(pairs, options);
  const triplets = mined.flatMap(tripletsOf);
  const lines = [...(extension === "csv" ? [COLUMNS] : []), ...triplets].map(line);
  await writeFileAtomic(output, new TextEncoder().encode(`${lines.join("\n")}\n`));
  const without = mined.filter(({ negatives }) => negatives.length === 0).length;
  note(
    `${output}: ${count(triplets.length)} triplets of ${count(pairs.length)} pairs; ${count(without)} pairs have no negative`,
  );
}

function tripletsOf({ anchor, positive, negatives }: MinedPair): Triplet[] {
  return negatives.map((negative) => [anchor, positive, negative]);
}

interface DedupeOptions {
  readonly threshold: number;
  readonly remove?: boolean;
  readonly json?: boolean;
}

async function dedupe(file: string, options: DedupeOptions): Promise<void> {
  const index = await openFlatIndex(file);
  const duplicates = index.dedupe(options);
  const texts = new Map(index.items.map(({ id, text }) => [id, text]));
  for (const { id, of, score } of duplicates) {
    const text = texts.get(id)!;
    console.log(
      options.json
        ? JSON.stringify({ id, of, score, text })
        : `${score.toFixed(3)}  ${id} repeats ${of}  ${text}`,
    );
  }
  if (options.remove && duplicates.length > 0) {
    index.remove(duplicates.map(({ id }) => id));
    await saveIndex(index, file);
  }
  const what = options.remove ? "removed" : "found";
  note(
    `${file}: ${what} ${count(duplicates.length)} of ${count(texts.size)} texts that repeat one`,
  );
}

interface ClusterOptions {
  readonly threshold: number;
  readonly minSize: number;
  readonly json?: boolean;
}

async function cluster(file: string, options: ClusterOptions): Promise<void> {
  const index = await openFlatIndex(file);
  const clusters = index.cluster(options);
  const texts = new Map(index.items.map(({ id, text }) => [id, text]));
  clusters.forEach((ids, n) => {
    if (options.json) console.log(JSON.stringify({ cluster: n, ids }));
    else for (const id of ids) console.log(`${n}  ${id}  ${texts.get(id)!}`);
  });
  const members = clusters.flat().length;
  note(
    `${file}: ${count(clusters.length)} clusters of ${count(members)} of ${count(texts.size)} texts`,
  );
}

/** Adds the commands to `simcse index`. */
export function addNeighbours(index: Command): void {
  const score = numberBetween(-1, 1);
  index
    .command("mine")
    .description("hard negatives: near texts that are no answers, as triplets for `simcse train`")
    .argument("<index>", "file of `simcse index build`: where negatives come from")
    .argument("<pairs>", "texts and their positives: .csv, .tsv, .jsonl, .parquet")
    .argument("<output>", `.csv or .jsonl to write, with the columns ${COLUMNS.join(", ")}`)
    .requiredOption("--model <model>", "model folder, or its name on a hub: org/name[@revision]")
    .option("--negatives <n>", "most negatives of a pair, a row each", wholeNumber(1), 1)
    .option("--skip <n>", "leave out the nearest, which may be positives", wholeNumber(0), 0)
    .option("--margin <score>", "how much farther than the positive", numberBetween(-2, 2), 0.05)
    .option("--max-score <score>", "largest score of a negative", score)
    .option("--columns <a,b>", "columns of the text and its positive", (text) => text.split(","))
    .addOption(
      new Option("--threads <n>", "threads").argParser(wholeNumber(1)).default(DEFAULT_THREADS),
    )
    .action((file: string, pairs: string, output: string, options: MineCommandOptions) =>
      mine(file, pairs, output, options),
    );

  index
    .command("dedupe")
    .description("texts that nearly repeat one before them: score, id, the id repeated, text")
    .argument("<index>", "file of `simcse index build`")
    .option("--threshold <score>", "least score of two that are the same", score, 0.95)
    .option("--remove", "remove them from the index")
    .option("--json", "print a JSON object for each")
    .action((file: string, options: DedupeOptions) => dedupe(file, options));

  index
    .command("cluster")
    .description("groups of near texts, the largest first: number, id, text; central texts first")
    .argument("<index>", "file of `simcse index build`")
    .option("--threshold <score>", "least score of neighbours", score, 0.75)
    .option("--min-size <n>", "texts of the smallest group", wholeNumber(1), 2)
    .option("--json", "print a JSON object for each group, with its ids")
    .action((file: string, options: ClusterOptions) => cluster(file, options));
}
