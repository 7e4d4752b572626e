import { linearScratch, packedBytes } from "../src/runtime/scratch.ts";
import {
  alternate,
  type Case,
  type Figure,
  geometricMean,
  giga,
  peakCase,
  peerRate,
  singleRank,
  type Table,
} from "./measure.ts";
import { openLayer } from "./onnx-layer.ts";

/** Inputs and outputs of the layers of MiniLM and of BERT-base. */
export const SHAPES = [
  [384, 384],
  [384, 1536],
  [1536, 384],
  [768, 768],
  [768, 3072],
  [3072, 768],
] as const;

/** The three products of a linear layer, packing included: y = x Wᵀ, dx = dy W, dW = dyᵀ x; and y of weights packed before. */
export async function* linear(): AsyncGenerator<Table> {
  for (const target of ["node", "portable"] as const) {
    for (const rows of [16, 32, 512, 2048]) {
      const figures: Figure[] = [];
      const shares: number[] = [];
      for (const [inputs, outputs] of SHAPES) {
        const { k, t } = singleRank(target, (arena) => ({
          x: arena.tensor("x", rows, inputs).ptr,
          w: arena.tensor("w", outputs, inputs).ptr,
          y: arena.tensor("y", rows, outputs).ptr,
          b: arena.tensor("b", outputs).ptr,
          packed: arena.scratch("packed", packedBytes(inputs, outputs)).ptr,
          scratch: arena.scratch("scratch", linearScratch(rows, inputs, outputs, 1)).ptr,
        }));
        const work = 2 * rows * inputs * outputs;
        const shape = `${inputs} x ${outputs}`;
        const cases: Case[] = [
          peakCase(target),
          {
            name: `${shape} forward`,
            work,
            run: () =>
              k.linearForward(t.y, 0, t.x, t.w, t.b, 0, rows, inputs, outputs, 0, t.scratch),
          },
          {
            name: `${shape} dX`,
            work,
            run: () => k.linearBackwardInput(t.x, t.y, t.w, rows, inputs, outputs, 0, t.scratch),
          },
          {
            name: `${shape} dW`,
            work,
            run: () => k.linearBackwardWeight(t.w, t.b, t.y, t.x, rows, inputs, outputs, t.scratch),
          },
        ];
        k.packLinear(t.packed, t.w, inputs, outputs);
        // What inference calls; it counts for no mean.
        const prepacked: Case = {
          name: `${shape} forward, packed before`,
          work,
          run: () =>
            k.linearPackedForward(
              t.y,
              0,
              t.x,
              t.packed,
              t.b,
              0,
              rows,
              inputs,
              outputs,
              0,
              t.scratch,
            ),
        };
        const [peak, ahead, ...products] = giga(
          alternate([cases[0]!, prepacked, ...cases.slice(1)]),
        );
        if (figures.length === 0) figures.push(peak!);
        const peer = await peerRate(
          work,
          target === "node" ? await openLayer("f32", rows, inputs, outputs) : undefined,
        );
        figures.push({ ...ahead!, ...(peer && { peer }) }, ...products);
        shares.push(...products.map(({ median }) => median / peak!.median));
      }
      const mean = geometricMean(shares) * figures[0]!.median;
      figures.push({ name: "geometric mean of the shares", median: mean, min: mean, max: mean });
      yield {
        title: `linear, ${target}, ${rows} rows`,
        unit: "GFLOP/s",
        reference: "peak",
        rows: figures,
      };
    }
  }
}
