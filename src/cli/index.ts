import { Option, type Command } from "commander";
import { UsageError } from "../errors.ts";
import { openFlatIndex, saveIndex, SimCSE } from "../node/index.ts";
import { readItems } from "../node/text-files.ts";
import type { ItemId } from "../search/flat-index.ts";
import { INDEX_PRECISIONS, type IndexPrecision } from "../search/rows.ts";
import { addFill } from "./index-fill.ts";
import { addNeighbours } from "./index-neighbours.ts";
import { DEFAULT_THREADS, numberBetween, wholeNumber } from "./options.ts";
import { count, note, Progress } from "./terminal.ts";

interface AddOptions {
  readonly model: string;
  readonly field?: string;
  readonly prompt?: string;
  readonly threads: number;
}
interface BuildOptions extends AddOptions {
  readonly precision: IndexPrecision;
  readonly dimensions?: number;
}
interface SearchCommandOptions {
  readonly model: string;
  readonly topK: number;
  readonly threshold?: number;
  readonly prompt?: string;
  readonly json?: boolean;
}

/** Shows how far encoding is. */
function reportProgress(): (progress: { done: number; total: number }) => void {
  const line = new Progress();
  return ({ done, total }) => {
    line.show(() => `${count(done)} of ${count(total)} texts`, done === total);
    if (done === total) line.end();
  };
}

async function build(input: string, file: string, options: BuildOptions): Promise<void> {
  const { model: folder, field, precision, dimensions, prompt, threads } = options;
  const items = await Array.fromAsync(readItems(input, field));
  await using model = await SimCSE.load(folder, { threads });
  const index = await model.buildIndex(items, {
    precision,
    onProgress: reportProgress(),
    ...(dimensions !== undefined && { dimensions }),
    ...(prompt !== undefined && { prompt }),
  });
  await saveIndex(index, file);
  note(`${file}: ${count(index.size)} texts`);
}

async function add(file: string, input: string, options: AddOptions): Promise<void> {
  const { model: folder, field, prompt, threads } = options;
  const items = await Array.fromAsync(readItems(input, field));
  await using model = await SimCSE.load(folder, { threads });
  const index = await model.loadIndex(file);
  const before = index.size;
  await index.add(items, {
    onProgress: reportProgress(),
    ...(prompt !== undefined && { prompt }),
  });
  await saveIndex(index, file);
  note(`${file}: ${count(before)} texts became ${count(index.size)}`);
}

async function search(file: string, query: string, options: SearchCommandOptions): Promise<void> {
  const { model: folder, topK, threshold, prompt, json } = options;
  await using model = await SimCSE.load(folder, { threads: 0 });
  const index = await model.loadIndex(file);
  const results = await index.search(query, {
    topK,
    ...(threshold !== undefined && { threshold }),
    ...(prompt !== undefined && { prompt }),
  });
  for (const result of results) {
    const { score, id, text } = result;
    console.log(json ? JSON.stringify(result) : `${score.toFixed(3)}  ${id}  ${text}`);
  }
}

async function remove(file: string, ids: readonly string[]): Promise<void> {
  const index = await openFlatIndex(file);
  const known = ids.flatMap((id): ItemId[] => {
    const number = /^\d+$/.test(id) ? [Number(id)] : [];
    const found = [id, ...number].filter((candidate) => index.has(candidate));
    if (found.length === 0) throw new UsageError(`${file} has no text of the id ${id}`);
    return found;
  });
  const removed = index.remove(known);
  await saveIndex(index, file);
  note(`${file}: removed ${count(removed)} texts, ${count(index.size)} are left`);
}

export function addIndex(program: Command): void {
  const index = program.command("index").description("an index of texts, to be searched");
  const model = (): Option =>
    new Option(
      "--model <model>",
      "model folder, or its name on a hub: org/name[@revision]",
    ).makeOptionMandatory();
  const field = (): Option =>
    new Option(
      "--field <name>",
      'the field or column of the text; of stdin, JSON lines (default: "text")',
    );
  const threads = (): Option =>
    new Option("--threads <n>", "threads").argParser(wholeNumber(1)).default(DEFAULT_THREADS);

  index
    .command("build")
    .description("encode texts into a new index")
    .argument(
      "<input>",
      ".txt with a text a line, .jsonl, .csv, .tsv, .parquet, .gz or .zst of them; - is stdin",
    )
    .argument("<index>", "file to write")
    .addOption(model())
    .addOption(
      new Option("--precision <name>", "number format of the index")
        .choices(INDEX_PRECISIONS)
        .default("float32"),
    )
    .option("--dimensions <n>", "keep the first components only", wholeNumber(1))
    .option("--prompt <text>", "put before every text")
    .addOption(field())
    .addOption(threads())
    .action((input: string, file: string, options: BuildOptions) => build(input, file, options));

  index
    .command("add")
    .description("encode texts into an index that is there")
    .argument("<index>", "file of `simcse index build`")
    .argument(
      "<input>",
      ".txt with a text a line, .jsonl, .csv, .tsv, .parquet, .gz or .zst of them; - is stdin",
    )
    .addOption(model())
    .option("--prompt <text>", "put before every text")
    .addOption(field())
    .addOption(threads())
    .action((file: string, input: string, options: AddOptions) => add(file, input, options));

  index
    .command("search")
    .description("the nearest texts: score, id, text")
    .argument("<index>", "file of `simcse index build`")
    .argument("<query>", "a text")
    .addOption(model())
    .option("--top-k <n>", "most results", wholeNumber(1), 5)
    .option("--threshold <score>", "least score", numberBetween(-1, 1))
    .option("--prompt <text>", "put before the query")
    .option("--json", "print a JSON object for each result, with its metadata")
    .action((file: string, query: string, options: SearchCommandOptions) =>
      search(file, query, options),
    );

  index
    .command("remove")
    .description("remove texts by their ids")
    .argument("<index>", "file of `simcse index build`")
    .argument("<ids...>", "ids, as search prints them")
    .action((file: string, ids: string[]) => remove(file, ids));

  addNeighbours(index);
  addFill(index);
}
