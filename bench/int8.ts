import { linearInt8Scratch, packedInt8Bytes } from "../src/runtime/scratch.ts";
import { alternate, type Case, giga, peakCase, singleRank, type Table } from "./measure.ts";

/** Quantised linear layers, quantisation of the activations included, against the peak of f32. */
export function int8(): Table[] {
  return [16, 128, 512].map((rows) => {
    const cases: Case[] = [peakCase("node")];
    for (const [inputs, outputs] of [
      [384, 384],
      [384, 1536],
      [1536, 384],
      [768, 3072],
    ] as const) {
      const { k, t } = singleRank("node", (arena) => ({
        x: arena.tensor("x", rows, inputs).ptr,
        w: arena.tensor("w", outputs, inputs).ptr,
        y: arena.tensor("y", rows, outputs).ptr,
        b: arena.tensor("b", outputs).ptr,
        packed: arena.scratch("packed", packedInt8Bytes(outputs, inputs)).ptr,
        scales: arena.tensor("scales", outputs).ptr,
        sums: arena.tensor("sums", outputs).ptr,
        scratch: arena.scratch("scratch", linearInt8Scratch(rows, inputs)).ptr,
      }));
      k.packInt8(t.packed, t.scales, t.sums, t.w, outputs, inputs);
      cases.push({
        name: `${inputs} x ${outputs}`,
        work: 2 * rows * inputs * outputs,
        run: () =>
          k.linearInt8Forward(
            t.y,
            t.x,
            t.packed,
            t.scales,
            t.sums,
            t.b,
            rows,
            inputs,
            outputs,
            t.scratch,
          ),
      });
    }
    return {
      title: `int8 linear, ${rows} rows`,
      unit: "GOP/s",
      reference: "peak",
      rows: giga(alternate(cases)),
    };
  });
}
