import { dropoutScratch, layerNormScratch } from "../src/runtime/scratch.ts";
import { alternate, type Case, giga, singleRank, softmaxCase, type Table } from "./measure.ts";

/** Bytes read and written a second, against a copy of the same size: in the second-level cache, and out of all caches. */
export function pointwise(): Table[] {
  return [
    ["in cache", 128],
    ["out of cache", 32_768],
  ].map(([place, rows]) => {
    const cols = 384;
    const count = (rows as number) * cols;
    const bytes = 4 * count;
    const { k, t, buffer } = singleRank("node", (arena) => ({
      x: arena.tensor("x", rows as number, cols).ptr,
      y: arena.tensor("y", rows as number, cols).ptr,
      z: arena.tensor("z", rows as number, cols).ptr,
      v: arena.tensor("v", rows as number, cols).ptr,
      gamma: arena.tensor("gamma", cols).ptr,
      beta: arena.tensor("beta", cols).ptr,
      mean: arena.tensor("mean", rows as number).ptr,
      rstd: arena.tensor("rstd", rows as number).ptr,
      norm: arena.tensor("norm", 1).ptr,
      scratch: arena.scratch(
        "scratch",
        Math.max(dropoutScratch(1), layerNormScratch(rows as number, cols)),
      ).ptr,
    }));
    const all = new Uint8Array(buffer);
    const n = rows as number;
    // prettier-ignore
    const cases: Case[] = [
      { name: "copy", work: 2 * bytes, run: () => void all.copyWithin(t.y, t.x, t.x + bytes) },
      { name: "add", work: 3 * bytes, run: () => k.addForward(t.y, t.x, t.z, count) },
      { name: "layer norm forward", work: 2 * bytes, run: () => k.layerNormForward(t.y, t.mean, t.rstd, t.x, t.gamma, t.beta, n, cols, 1e-12) },
      { name: "layer norm backward", work: 3 * bytes, run: () => k.layerNormBackward(t.y, t.gamma, t.beta, t.z, t.x, t.gamma, t.mean, t.rstd, n, cols, t.scratch) },
      softmaxCase(n, cols),
      { name: "gelu forward", work: 2 * bytes, run: () => k.geluForward(t.y, t.x, count, 0) },
      { name: "gelu backward", work: 3 * bytes, run: () => k.geluBackward(t.y, t.z, t.x, count, 0) },
      { name: "dropout and residual", work: 3 * bytes, run: () => k.dropoutForward(t.y, t.x, t.z, 0, n, cols, 0.1, 1, 1, 1, t.scratch) },
      { name: "AdamW", work: 7 * bytes, run: () => k.adamWStep(t.x, t.y, t.z, t.v, t.norm, count, 1, 1e-9, 0.9, 0.999, 1e-8, 0.01, 1) },
    ];
    new Float32Array(buffer, t.v, count).fill(1e-3);
    return {
      title: `pointwise, ${place}: ${n} x ${cols}`,
      unit: "GB/s",
      reference: "copy",
      rows: giga(alternate(cases)),
    };
  });
}
