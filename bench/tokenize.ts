import { globSync, readFileSync } from "node:fs";
import { Tokenizer } from "../src/tokenizer/tokenizer.ts";
import { figure, type Table } from "./measure.ts";

/** Text to tokenise: a file of yours, or our own documentation. */
const TEXT = process.env["SIMCSE_TEXT"];
const ROUNDS = 5;

/** What `simcse train` does once with all text before its first step: lines to token ids, by one thread. */
export function* tokenize(): Generator<Table> {
  const json = readFileSync("models/simcse-edge-nano/tokenizer.json", "utf8");
  const tokenizer = new Tokenizer(JSON.parse(json));
  const lines = (TEXT === undefined ? globSync("{docs/*.md,*.md,assembly/*.ts}") : [TEXT])
    .flatMap((file) => readFileSync(file, "utf8").split("\n"))
    .filter((line) => line.trim() !== "")
    .slice(0, 50_000);
  const megabytes = Buffer.byteLength(lines.join("\n")) / 1e6;
  const [bytes, tokens]: [number[], number[]] = [[], []];
  for (let round = 0; round <= ROUNDS; round++) {
    const begun = performance.now();
    const count = lines.reduce((sum, line) => sum + tokenizer.encode(line, 64).ids.length, 0);
    const seconds = (performance.now() - begun) / 1000;
    if (round === 0) continue;
    bytes.push(megabytes / seconds);
    tokens.push(count / seconds / 1000);
  }
  const title = `tokenising ${lines.length} lines, ${megabytes.toFixed(1)} MB, cut to 64 tokens`;
  yield { title, unit: "MB/s", reference: "1 thread", rows: [figure("1 thread", bytes)] };
  yield {
    title,
    unit: "thousand tokens/s",
    reference: "1 thread",
    rows: [figure("1 thread", tokens)],
  };
}
