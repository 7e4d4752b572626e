import { crossEntropyScratch } from "../src/runtime/scratch.ts";
import { alternate, giga, peakCase, singleRank, type Table } from "./measure.ts";

/** 150 masked tokens against BERT's vocabulary: a product forward, and backward the same again and two more. */
export function mlm(): Table[] {
  const [rows, hidden, vocab] = [150, 384, 30_522];
  const { k, t, buffer } = singleRank("node", (arena) => ({
    loss: arena.tensor("loss", 2).ptr,
    sums: arena.tensor("sums", 3, rows).ptr,
    labels: arena.reserve("labels", "I32", [rows]).ptr,
    x: arena.tensor("x", rows, hidden).ptr,
    dx: arena.tensor("dx", rows, hidden).ptr,
    words: arena.tensor("words", vocab, hidden).ptr,
    dWords: arena.tensor("dWords", vocab, hidden).ptr,
    bias: arena.tensor("bias", vocab).ptr,
    dBias: arena.tensor("dBias", vocab).ptr,
    scratch: arena.scratch("scratch", crossEntropyScratch(rows, hidden, 1)).ptr,
  }));
  const labels = new Int32Array(buffer, t.labels, rows);
  labels.forEach((_, i) => (labels[i] = (i * 200) % vocab));
  const run = (): void => {
    // prettier-ignore
    k.crossEntropyForward(t.loss, t.sums, t.sums + 4 * rows, t.sums + 8 * rows, t.x, t.words, t.bias, t.labels, rows, hidden, vocab, t.scratch);
    // prettier-ignore
    k.crossEntropyBackward(t.dx, t.dWords, t.dBias, t.x, t.words, t.bias, t.labels, t.sums, rows, hidden, vocab, 1, t.scratch);
  };
  const work = 4 * 2 * rows * vocab * hidden;
  return [
    {
      title: `cross-entropy over a vocabulary, ${rows} x ${vocab} x ${hidden}`,
      unit: "GFLOP/s",
      reference: "peak",
      rows: giga(alternate([peakCase("node"), { name: "forward and backward", work, run }])),
    },
  ];
}
