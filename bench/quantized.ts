import {
  type Bits,
  linearQuantizedScratch,
  quantizedActivations,
  quantizedWeight,
} from "../src/runtime/scratch.ts";
import { SHAPES } from "./linear.ts";
import {
  alternate,
  type Case,
  giga,
  peakCase,
  peerRate,
  singleRank,
  type Table,
} from "./measure.ts";
import { openLayer } from "./onnx-layer.ts";

/**
 * Quantised linear layers against the peak of f32: the product with bias of quantised activations, the same with
 * quantising them, and with GELU and quantising its result, as the layer before a second one does.
 */
export async function* quantized(bits: Bits): AsyncGenerator<Table> {
  for (const rows of [16, 32, 512, 2048]) {
    const cases: Case[] = [peakCase("node")];
    const peers = new Map<string, number | undefined>();
    for (const [inputs, outputs] of SHAPES) {
      const sizes = quantizedWeight(bits, outputs, inputs);
      const { k, t } = singleRank("node", (arena) => ({
        x: arena.tensor("x", rows, inputs).ptr,
        quantized: arena.scratch("quantized", quantizedActivations(rows, inputs)).ptr,
        w: arena.tensor("w", outputs, inputs).ptr,
        y: arena.tensor("y", rows, outputs).ptr,
        active: arena.scratch("active", quantizedActivations(rows, outputs)).ptr,
        b: arena.tensor("b", outputs).ptr,
        codes: arena.scratch("codes", sizes.codes).ptr,
        scales: arena.tensor("scales", sizes.scales).ptr,
        sums: arena.tensor("sums", outputs).ptr,
        scratch: arena.scratch("scratch", linearQuantizedScratch(inputs, outputs, 1)).ptr,
      }));
      k[`packInt${bits}`](t.codes, t.scales, t.sums, t.w, outputs, inputs);
      k.quantizeActivations(t.quantized, t.x, rows, inputs);
      const product = (active = 0): void => {
        // prettier-ignore
        k.linearQuantizedForward(t.y, active, t.quantized, t.codes, t.scales, t.sums, t.b, 0, rows, inputs, outputs, 0, bits, t.scratch);
      };
      const work = 2 * rows * inputs * outputs;
      const shape = `${inputs} x ${outputs}`;
      cases.push({ name: shape, work, run: product });
      const layer = await openLayer(`int${bits}`, rows, inputs, outputs);
      peers.set(`${shape}, quantising x`, await peerRate(work, layer));
      cases.push({
        name: `${shape}, quantising x`,
        work,
        run: () => {
          k.quantizeActivations(t.quantized, t.x, rows, inputs);
          product();
        },
      });
      if (outputs > inputs) {
        cases.push({ name: `${shape}, GELU, quantised`, work, run: () => product(t.active) });
      }
    }
    yield {
      title: `int${bits} linear, ${rows} rows`,
      unit: "GOP/s",
      reference: "peak",
      rows: giga(alternate(cases)).map((row) => {
        const peer = peers.get(row.name);
        return peer === undefined ? row : { ...row, peer };
      }),
    };
  }
}
