/** Scores of several models as one HTML page: the tables and figures of the SimCSE paper's sections 4 to 6. */
import type { Geometry } from "../evaluate/geometry.ts";
import type { PublishedRow } from "../evaluate/published.ts";
import { figures, htmlPage, spectrumChart } from "./page.ts";
import { escapeXml, heatMap, lineChart, type Point, scatter, scatterPaths } from "./svg.ts";

export interface ScoreTable {
  readonly title: string;
  readonly columns: readonly string[];
  /** A model's scores, times 100, for each column; undefined where there is none. */
  readonly rows: readonly {
    readonly model: string;
    readonly scores: readonly (number | undefined)[];
  }[];
  readonly published: readonly PublishedRow[];
}

/** A model against the first one on a task: Spearman's difference, times 100. */
export interface Comparison {
  readonly model: string;
  readonly task: string;
  readonly difference: number;
  readonly interval: readonly [low: number, high: number];
  /** Share of draws in which it is not better. */
  readonly notBetter: number;
}

export interface EvaluationReport {
  readonly tables: readonly ScoreTable[];
  readonly base: string;
  readonly comparisons: readonly Comparison[];
  readonly geometries: readonly { readonly model: string; readonly geometry: Geometry }[];
  /** Evaluations of a training run: x is uniformity, y alignment. */
  readonly paths: readonly {
    readonly name: string;
    readonly points: readonly (Point & { readonly label: string })[];
  }[];
  readonly sentences: readonly string[];
  /** Cosines of all sentences with all. */
  readonly similarities: readonly {
    readonly model: string;
    readonly cosines: readonly (readonly number[])[];
  }[];
  readonly missing: readonly string[];
}

export function evaluationReport(report: EvaluationReport): string {
  const { tables, comparisons, sentences, similarities, missing } = report;
  const charts = [...geometryCharts(report), ...pathChart(report)];
  const maps = similarities.map(({ model, cosines }) =>
    heatMap(sentences, cosines, {
      title: `Cosines of sentences, ${model}`,
      description:
        "The cosine of each sentence with each, numbered as in the list below; blue above 0, orange below.",
    }),
  );
  const list = sentences.map((text) => `<li>${escapeXml(text)}</li>`).join("");
  const parts = [
    missing.length > 0 ? `<p>Missing: ${escapeXml(missing.join(", "))}.</p>` : "",
    ...tables.map(scoreTable),
    comparisons.length > 0 ? comparisonTable(report.base, comparisons) : "",
    charts.length > 0 ? `<h2>Vectors of STS-B</h2>\n${figures(charts)}` : "",
    maps.length > 0 ? `<h2>Sentences</h2>\n${figures(maps)}\n<ol>${list}</ol>` : "",
  ];
  return htmlPage("Sentence embeddings compared", parts.filter((part) => part !== "").join("\n"));
}

function htmlTable(
  title: string,
  head: readonly string[],
  rows: readonly { cells: readonly string[]; published?: boolean }[],
): string {
  const header = head.map((cell) => `<th scope="col">${escapeXml(cell)}</th>`).join("");
  const body = rows.map(({ cells: [first = "", ...cells], published = false }) => {
    const values = cells.map((cell) => `<td>${escapeXml(cell)}</td>`).join("");
    return `<tr${published ? ' class="published"' : ""}><th scope="row">${escapeXml(first)}</th>${values}</tr>`;
  });
  return `<h2>${escapeXml(title)}</h2>\n<div class="scores"><table><tr>${header}</tr>\n${body.join("\n")}\n</table></div>`;
}

function scoreTable({ title, columns, rows, published }: ScoreTable): string {
  const ours = rows.map(({ model, scores }) => ({
    cells: [model, ...scores.map((score) => score?.toFixed(2) ?? "")],
  }));
  const theirs = published.map(([model, scores]) => ({
    cells: [`published: ${model}`, ...scores.map((score) => score.toFixed(2))],
    published: true,
  }));
  return htmlTable(title, ["model", ...columns], [...ours, ...theirs]);
}

function comparisonTable(base: string, comparisons: readonly Comparison[]): string {
  const rows = comparisons.map(({ model, task, difference, interval: [low, high], notBetter }) => ({
    cells: [
      model,
      task,
      difference.toFixed(2),
      `${low.toFixed(2)} to ${high.toFixed(2)}`,
      `${(100 * notBetter).toFixed(1)} %`,
    ],
  }));
  const head = ["model", "task", "difference", "95 % interval", "draws not better"];
  return htmlTable(`Spearman against ${base}, paired bootstrap`, head, rows);
}

function geometryCharts({ geometries }: EvaluationReport): string[] {
  if (geometries.length === 0) return [];
  const bins = geometries[0]!.geometry.histograms[0]!.counts.length;
  return [
    scatter(
      geometries.map(({ model, geometry: { alignment, uniformity } }) => ({
        name: model,
        x: uniformity,
        y: alignment,
      })),
      {
        title: "Alignment and uniformity",
        description: "One point for each model; lower is better on both axes.",
        x: "uniformity",
        y: "alignment",
      },
    ),
    spectrumChart(
      geometries.map(({ model, geometry: { spectrum } }) => ({ name: model, spectrum })),
    ),
    ...geometries.map(({ model, geometry: { histograms } }) =>
      lineChart(
        histograms.map(({ grades, counts }) => ({
          name: grades,
          points: counts.map((y, i) => ({ x: (2 * (i + 0.5)) / bins - 1, y })),
        })),
        {
          title: `Cosines by grade, ${model}`,
          description:
            "How many pairs have which cosine, a curve for each band of grades from 0 to 5.",
          x: "cosine",
          y: "pairs",
        },
      ),
    ),
  ];
}

function pathChart({ paths }: EvaluationReport): string[] {
  if (paths.length === 0) return [];
  const title = `Training of ${paths.map(({ name }) => name).join(", ")}`;
  const description =
    "A path for each run, a point for each of its evaluations, the first hollow; lower is better on both axes.";
  return [scatterPaths(paths, { title, description, x: "uniformity", y: "alignment" })];
}
