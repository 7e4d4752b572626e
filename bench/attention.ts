import { attentionBackwardScratch } from "../src/runtime/scratch.ts";
import { alternate, type Case, giga, peakCase, singleRank, type Table } from "./measure.ts";

/** Flops of the two products forward, and of the five backward (one of them recomputes the scores). */
const FORWARD = 4;
const BACKWARD = 10;

/** Attention with dropout off and on, over 12 heads; lengths are one batch each, the last one ragged. */
export function attention(): Table[] {
  return [32, 64].map((headDim) => {
    const heads = 12;
    const hidden = heads * headDim;
    const cases: Case[] = [peakCase("node")];
    for (const lengths of [
      Array.from({ length: 32 }, () => 16),
      Array.from({ length: 16 }, () => 32),
      Array.from({ length: 8 }, () => 128),
      [512, 512],
      Array.from({ length: 64 }, (_, i) => 5 + ((i * 7) % 30)),
    ]) {
      const tokens = lengths.reduce((sum, n) => sum + n, 0);
      const maxLength = Math.max(...lengths);
      const { k, t, buffer } = singleRank("node", (arena) => ({
        qkv: arena.tensor("qkv", tokens, 3 * hidden).ptr,
        dqkv: arena.tensor("dqkv", tokens, 3 * hidden).ptr,
        context: arena.tensor("context", tokens, hidden).ptr,
        dContext: arena.tensor("dContext", tokens, hidden).ptr,
        logSumExp: arena.tensor("logSumExp", heads, tokens).ptr,
        offsets: arena.reserve("offsets", "I32", [lengths.length + 1]).ptr,
        scratch: arena.scratch("scratch", attentionBackwardScratch(maxLength, headDim, 1)).ptr,
      }));
      const offsets = new Int32Array(buffer, t.offsets, lengths.length + 1);
      lengths.forEach((length, s) => (offsets[s + 1] = offsets[s]! + length));
      offsets[0] = 0;
      lengths.forEach((length, s) => (offsets[s + 1] = offsets[s]! + length));
      const products = lengths.reduce((sum, n) => sum + n * n * hidden, 0);
      const name =
        new Set(lengths).size > 1
          ? `ragged ${Math.min(...lengths)}-${maxLength}`
          : `length ${maxLength}`;
      for (const rate of [0, 0.1]) {
        const label = rate > 0 ? ", dropout" : "";
        // prettier-ignore
        cases.push(
          { name: `${name} forward${label}`, work: FORWARD * products, run: () => k.attentionForward(t.context, t.logSumExp, 0, t.qkv, t.offsets, lengths.length, maxLength, heads, headDim, rate, 1, 1, 1, t.scratch) },
          { name: `${name} backward${label}`, work: BACKWARD * products, run: () => k.attentionBackward(0, t.dqkv, t.dContext, 0, t.qkv, t.context, t.logSumExp, t.offsets, lengths.length, maxLength, heads, headDim, rate, 1, 1, 1, t.scratch) },
        );
      }
    }
    return {
      title: `attention, head ${headDim}`,
      unit: "GFLOP/s",
      reference: "peak",
      rows: giga(alternate(cases)),
    };
  });
}
