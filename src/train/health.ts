import type { DevReport, StepReport } from "./trainer.ts";

/** Steps whose mean loss is judged: single batches say little. */
const WINDOW = 200;
/** A loss within so much of chance has learned nothing. */
const STUCK = 0.98;
/** Above this uniformity all sentences have nearly one vector; random directions have about -4. */
const COLLAPSED = -0.1;

/** Watches a run for the ways in which contrastive training silently fails, and says once of each what to do. */
export class Health {
  #share = 0;
  #seen = 0;
  #stuck = false;
  #collapsed = false;

  /** A warning after a step whose loss, with those before it, is still that of guessing. */
  step(report: StepReport): string | undefined {
    const { step, rows, columns, contrastive: loss } = report;
    if (loss === undefined) return undefined;
    const chance = Math.log(rows * (columns - 1));
    this.#share += (loss / chance - this.#share) / Math.min(++this.#seen, WINDOW);
    if (this.#stuck || this.#seen < WINDOW || this.#share < STUCK) return undefined;
    this.#stuck = true;
    return (
      `step ${step}: the loss is still ${loss.toFixed(2)}, and guessing among ${rows * (columns - 1)} gives ` +
      `${chance.toFixed(2)}: nothing is learned. Check that the rows are pairs that belong together, raise ` +
      `--learning-rate, or lower --temperature`
    );
  }

  /** A warning after an evaluation in which all sentences have nearly the same vector. */
  evaluation({ step, uniformity }: DevReport): string | undefined {
    if (this.#collapsed || !(uniformity > COLLAPSED)) return undefined;
    this.#collapsed = true;
    return (
      `step ${step}: uniformity ${uniformity.toFixed(3)}, near 0: all sentences have nearly the same vector (collapse). ` +
      `Lower --learning-rate or --temperature, or raise --batch-size`
    );
  }
}
