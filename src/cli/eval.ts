import type { Command } from "commander";
import { evaluatePairs, type PairReport } from "../evaluate/measures.ts";
import { parsePairs } from "../evaluate/pairs.ts";
import { readFileOr } from "../node/files.ts";
import { openModel, readModelFolder } from "../node/model-folder.ts";
import { table } from "./terminal.ts";

export interface EvalOptions {
  readonly model: readonly string[];
  readonly pairs: string;
  readonly json?: boolean;
}

/** Scores models on a file of graded pairs. */
export async function evaluateModels(
  models: readonly string[],
  pairsFile: string,
): Promise<PairReport[]> {
  const text = new TextDecoder().decode(await readFileOr(pairsFile, "graded sentence pairs"));
  const pairs = parsePairs(text, pairsFile);
  const reports: PairReport[] = [];
  for (const path of models) {
    const model = await openModel(await readModelFolder(path));
    reports.push(await evaluatePairs(pairs, async (texts) => model.encode(texts)));
  }
  return reports;
}

/** Rows for people: one a model, and word overlap as what each has to beat. */
export function reportTable(names: readonly string[], reports: readonly PairReport[]): string {
  const number = (value: number, digits: number): string => value.toFixed(digits);
  return table([
    ["model", "Spearman", "95 % interval", "alignment", "uniformity"],
    ["word overlap", number(reports[0]!.overlapSpearman, 2), "", "", ""],
    ...reports.map((r, i) => [
      names[i]!,
      number(r.spearman, 2),
      `${number(r.interval[0], 1)} to ${number(r.interval[1], 1)}`,
      number(r.alignment, 3),
      number(r.uniformity, 3),
    ]),
  ]);
}

export function addEval(program: Command): void {
  program
    .command("eval")
    .description("Spearman correlation with graded pairs, alignment and uniformity")
    .requiredOption("--model <folders...>", "model folders, f32 or int8")
    .requiredOption("--pairs <file>", "lines of score, sentence and sentence, separated by tabs")
    .option("--json", "print JSON instead of a table")
    .action(async ({ model, pairs, json }: EvalOptions) => {
      const reports = await evaluateModels(model, pairs);
      if (json) {
        console.log(
          JSON.stringify(
            reports.map((report, i) => ({ model: model[i], ...report })),
            null,
            2,
          ),
        );
      } else {
        console.log(reportTable(model, reports));
      }
    });
}
