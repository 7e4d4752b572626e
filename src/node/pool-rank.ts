/** The program of a thread of the pool: a batch in, its vectors out. */
import { parentPort, workerData } from "node:worker_threads";
import { SentenceEncoder } from "../model/sentence-encoder.ts";
import type { PoolAnswer, PoolRankData, PoolRequest } from "./pool.ts";

const { module, memory, config, rank, ranks } = workerData as PoolRankData;
const encoder = new SentenceEncoder(module, config, memory, { rank, ranks });

parentPort!.on("message", ({ texts, normalize }: PoolRequest) => {
  try {
    const rows = encoder.encode(texts, { normalize });
    const vectors = new Float32Array(rows.length * encoder.dimension);
    rows.forEach((row, i) => vectors.set(row, i * encoder.dimension));
    parentPort!.postMessage({ vectors } satisfies PoolAnswer, [vectors.buffer]);
  } catch (error) {
    parentPort!.postMessage({ error: error as Error } satisfies PoolAnswer);
  }
});
