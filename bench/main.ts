/**
 * Figures of the kernels against the limit of the machine: `npm run bench -- [name…] [--json]`. A name prints its tables, the name
 * of a group those of its members; rows are medians of alternating rounds, with the least and the most of them, and the share of the peak or of a copy.
 */
import { attention } from "./attention.ts";
import { boxed } from "./boxed.ts";
import { base, minilm, start, stsb } from "./encode.ts";
import { infonce } from "./infonce.ts";
import { linear } from "./linear.ts";
import type { Table } from "./measure.ts";
import { mlm } from "./mlm.ts";
import { pointwise } from "./pointwise.ts";
import { quantized } from "./quantized.ts";
import { search } from "./search.ts";
import { staticStep } from "./static.ts";
import { steps } from "./step.ts";
import { tokenize } from "./tokenize.ts";
import { workerd } from "./workerd.ts";

const benches: Record<string, () => Iterable<Table> | AsyncIterable<Table>> = {
  linear,
  int8: () => quantized(8),
  int4: () => quantized(4),
  attention,
  pointwise,
  infonce,
  mlm,
  ...steps,
  static: staticStep,
  tokenize,
  search,
  minilm: () => minilm("f32"),
  "minilm-int8": () => minilm("int8"),
  "minilm-int4": () => minilm("int4"),
  base,
  start,
  stsb,
  boxed,
  workerd,
};

/** Names that stand for several. */
const groups: Record<string, readonly string[]> = {
  gemm: ["linear", "int8", "int4"],
  kernels: ["attention", "pointwise", "infonce", "mlm", "search"],
  step: Object.keys(steps),
  encode: ["minilm", "minilm-int8", "minilm-int4", "base", "start"],
};

const given = process.argv.slice(2).filter((name) => name !== "--json");
const unknown = given.find((name) => !(name in benches) && !(name in groups));
if (unknown !== undefined) {
  const choices = [...Object.keys(benches), ...Object.keys(groups)].join(", ");
  console.error(`no bench named ${unknown}; should be one of: ${choices}`);
  process.exit(2);
}
const names = new Set(given.flatMap((name) => groups[name] ?? [name]));
for (const name of names.size > 0 ? names : Object.keys(benches)) {
  for await (const table of benches[name]!()) {
    if (process.argv.includes("--json")) console.log(JSON.stringify({ bench: name, ...table }));
    else print(table);
  }
}

function print({ title, unit, reference, rows }: Table): void {
  const limit = rows.find((row) => row.name === reference)!.median;
  console.log(`\n${title} (${unit})`);
  const beside = rows.some(({ peer }) => peer !== undefined) ? "   onnxruntime-web" : "";
  console.log(`${"".padEnd(34)}  median     min     max   of ${reference}${beside}`);
  for (const { name, median, min, max, peer } of rows) {
    const numbers = [median, min, max]
      .map((value) => value.toFixed(value < 10 ? 2 : 1).padStart(7))
      .join(" ");
    const spread = max - min > 0.1 * median ? "  spread over 10 %" : "";
    console.log(
      `${name.padEnd(34)} ${numbers}   ${((100 * median) / limit).toFixed(0).padStart(5)} %${beside && (peer?.toFixed(1) ?? "").padStart(18)}${spread}`,
    );
  }
}
