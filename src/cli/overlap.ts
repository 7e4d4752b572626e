import type { Command } from "commander";
import { UsageError } from "../errors.ts";
import { sharedWords } from "../evaluate/pairs.ts";
import { openRows } from "../node/rows.ts";
import { count } from "./terminal.ts";

/** How much the pairs of a training set have in common: what a model could learn from words alone. */
async function overlap(file: string, columns: readonly string[] | undefined): Promise<void> {
  const { columns: found, rows } = await openRows(file, columns);
  if (found.length < 2) {
    throw new UsageError(`${file}: expected pairs, found the one column ${found.join()}`);
  }
  let pairs = 0;
  let sum = 0;
  for await (const { cells } of rows) {
    const [a, b] = cells;
    if (a!.trim() === "" || b!.trim() === "") continue;
    pairs++;
    sum += sharedWords(a!, b!);
  }
  if (pairs === 0) throw new UsageError(`${file}: expected pairs of texts, found none`);
  const percent = ((100 * sum) / pairs).toFixed(1);
  console.log(
    `${file}: ${count(pairs)} pairs of ${found[0]} and ${found[1]} share ${percent} % of their words`,
  );
}

export function addOverlap(program: Command): void {
  program
    .command("overlap")
    .description("the words that pairs of texts share, as F1, averaged")
    .argument("<file>", ".csv, .tsv, .jsonl or .parquet, also with .gz or .zst")
    .option("--columns <a,b>", "which two; default: the first two", (text) => text.split(","))
    .action((file: string, { columns }: { columns?: readonly string[] }) => overlap(file, columns));
}
