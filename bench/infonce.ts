import { infoNceScratch } from "../src/runtime/scratch.ts";
import { alternate, giga, peakCase, singleRank, type Table } from "./measure.ts";

/** 512 anchors against 512 positives and 512 hard negatives: one product forward, two backward. */
export function infonce(): Table[] {
  const [rows, cols, dimension] = [512, 1024, 384];
  const { k, t } = singleRank("node", (arena) => ({
    loss: arena.tensor("loss", 1).ptr,
    logits: arena.tensor("logits", rows, cols).ptr,
    logSumExp: arena.tensor("logSumExp", rows).ptr,
    units: arena.tensor("units", rows + cols, dimension).ptr,
    scales: arena.tensor("scales", rows + cols).ptr,
    x: arena.tensor("x", rows + cols, dimension).ptr,
    dx: arena.tensor("dx", rows + cols, dimension).ptr,
    scratch: arena.scratch("scratch", infoNceScratch(rows, cols, dimension, 1)).ptr,
  }));
  const keys = (address: number, width: number): number => address + 4 * rows * width;
  const run = (): void => {
    // prettier-ignore
    k.infoNceForward(t.loss, t.logits, t.logSumExp, 0, t.units, keys(t.units, dimension), t.scales, keys(t.scales, 1), t.x, keys(t.x, dimension), 0, 0, rows, cols, dimension, 0.05, 0, 1, t.scratch);
    // prettier-ignore
    k.infoNceBackward(t.dx, keys(t.dx, dimension), t.logits, t.logSumExp, 0, t.units, keys(t.units, dimension), t.scales, keys(t.scales, 1), rows, cols, dimension, 0.05, 1, t.scratch);
  };
  const cases = [
    peakCase("node"),
    { name: "forward and backward", work: 3 * 2 * rows * cols * dimension, run },
  ];
  return [
    {
      title: `InfoNCE, ${rows} x ${cols} x ${dimension}`,
      unit: "GFLOP/s",
      reference: "peak",
      rows: giga(alternate(cases)),
    },
  ];
}
