/** A training run as one HTML page: it needs no network, no script and no other file. */
import type { DevReport, StepReport } from "../train/trainer.ts";
import { figures, htmlPage, spectrumChart } from "./page.ts";
import { escapeXml, histogram, lineChart, scatterPaths } from "./svg.ts";

export interface TrainingRun {
  readonly name: string;
  /** Rows of a table, such as the options of the run. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly steps: readonly StepReport[];
  readonly evaluations: readonly DevReport[];
  /** How many different sentences have i tokens. */
  readonly lengths: readonly number[];
  /** Singular values of vectors of training sentences, before and after; none of a run that goes on. */
  readonly spectra: readonly { readonly name: string; readonly spectrum: readonly number[] }[];
}

/** Share of an older mean in the smooth curve of the loss. */
const SMOOTHING = 0.98;

export function trainingReport({
  name,
  settings,
  steps,
  evaluations,
  lengths,
  spectra,
}: TrainingRun): string {
  const charts = [lossChart(steps)];
  if (steps.some(({ accuracy }) => accuracy !== undefined)) charts.push(guessChart(steps));
  if (evaluations.some(isScored)) charts.push(devChart(evaluations));
  if (evaluations.length > 0) charts.push(pathChart(evaluations));
  if (spectra.length > 0) charts.push(spectrumChart(spectra));
  charts.push(
    lineChart(
      [
        {
          name: "learning rate",
          points: steps.map(({ step, learningRate }) => ({ x: step, y: learningRate })),
        },
      ],
      { title: "Learning rate", description: "Learning rate by step.", x: "step", y: "rate" },
    ),
    histogram(lengths, {
      title: "Tokens of a sentence",
      description:
        "How many different sentences have how many tokens; the last bar holds those that were cut.",
      x: "tokens, specials included",
      y: "sentences",
    }),
  );
  const rows = Object.entries(settings).map(
    ([key, value]) =>
      `<tr><th scope="row">${escapeXml(key)}</th><td>${escapeXml(typeof value === "string" ? value : JSON.stringify(value))}</td></tr>`,
  );
  const body = `<p>${escapeXml(summary(steps, evaluations))}</p>
${figures(charts)}
<h2>Settings</h2>
<table>
${rows.join("\n")}
</table>`;
  return htmlPage(name, body);
}

function lossChart(steps: readonly StepReport[]): string {
  let mean = steps[0]?.loss ?? 0;
  const smooth = steps.map(({ step, loss }) => {
    mean = SMOOTHING * mean + (1 - SMOOTHING) * loss;
    return { x: step, y: mean };
  });
  const compares = steps.some(({ contrastive }) => contrastive !== undefined);
  const most = steps.reduce((n, { rows, columns }) => Math.max(n, rows * (columns - 1)), 1);
  return lineChart(
    [
      { name: "loss", points: steps.map(({ step, loss }) => ({ x: step, y: loss })) },
      { name: "smooth", points: smooth },
    ],
    {
      title: "Loss",
      description:
        "Loss by step, with a moving mean." +
        (compares ? ` Comparing by chance has ln ${most}.` : ""),
      x: "step",
      y: "loss",
      ...(compares && { level: { name: `chance, ln ${most}`, y: Math.log(most) } }),
    },
  );
}

function guessChart(steps: readonly StepReport[]): string {
  const shares = steps.filter(({ accuracy }) => accuracy !== undefined);
  let mean = shares[0]!.accuracy!;
  const smooth = shares.map(({ step, accuracy }) => {
    mean = SMOOTHING * mean + (1 - SMOOTHING) * accuracy!;
    return { x: step, y: 100 * mean };
  });
  return lineChart([{ name: "guessed", points: smooth }], {
    title: "Masked tokens guessed",
    description: "Share of the masked tokens that the model guessed, a moving mean by step.",
    x: "step",
    y: "%",
  });
}

/** Whether its pairs have grades. */
function isScored({ spearman }: DevReport): boolean {
  return !Number.isNaN(spearman);
}

function devChart(evaluations: readonly DevReport[]): string {
  return lineChart(
    [
      {
        name: "Spearman",
        points: evaluations.map(({ step, spearman }) => ({ x: step, y: spearman })),
      },
    ],
    {
      title: "Dev score",
      description:
        "Spearman correlation, times 100, of cosine and grade by step; higher is better.",
      x: "step",
      y: "Spearman × 100",
    },
  );
}

function pathChart(evaluations: readonly DevReport[]): string {
  const points = evaluations.map(({ step, alignment, uniformity }) => ({
    x: uniformity,
    y: alignment,
    label: `step ${step}: alignment ${alignment.toFixed(3)}, uniformity ${uniformity.toFixed(3)}`,
  }));
  return scatterPaths([{ name: "", points }], {
    title: "Alignment and uniformity",
    description: "One point for each evaluation, the first hollow; lower is better on both axes.",
    x: "uniformity",
    y: "alignment",
  });
}

function summary(steps: readonly StepReport[], evaluations: readonly DevReport[]): string {
  const last = steps.at(-1);
  if (!last) return "No step yet.";
  const text = `${last.step} of ${last.totalSteps} steps; last loss ${last.loss.toFixed(4)}.`;
  if (!evaluations.some(isScored)) return text;
  const best = evaluations.reduce((a, b) => (b.spearman > a.spearman ? b : a));
  return `${text} Best dev Spearman ${best.spearman.toFixed(2)} at step ${best.step}.`;
}
