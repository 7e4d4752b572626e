import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** What we call of onnxruntime-web, which is not installed with this project. */
interface OnnxRuntime {
  readonly env: { readonly wasm: { numThreads: number } };
  readonly Tensor: new (
    type: "int64" | "float32",
    data: BigInt64Array | Float32Array,
    dims: readonly number[],
  ) => Tensor;
  readonly InferenceSession: {
    create(model: Uint8Array, options: object): Promise<Session>;
  };
}
interface Tensor {
  dispose(): void;
}
interface Session {
  run(feeds: Readonly<Record<string, Tensor>>): Promise<Readonly<Record<string, Tensor>>>;
}
export type Batch = readonly (readonly number[])[];

/** The folder that `SIMCSE_PEERS` names. */
export const PEERS: string | undefined = process.env["SIMCSE_PEERS"];

/** The module of onnxruntime-web in it, if it is there. */
export function installed(): string | undefined {
  const module = PEERS && join(PEERS, "node_modules/onnxruntime-web/dist/ort.node.min.mjs");
  return module && existsSync(module) ? module : undefined;
}

/** Threads of this process: its first model settles them. */
let settled: number | undefined;

/** A model of so many threads, the same in all of a process. */
export async function open(
  module: string,
  model: Uint8Array,
  threads: number,
): Promise<{ ort: OnnxRuntime; session: Session }> {
  settled ??= threads;
  if (threads !== settled) {
    throw new Error(
      `onnxruntime-web has ${settled} threads in this process, ${threads} are asked for; name one bench at a time`,
    );
  }
  const ort = (await import(pathToFileURL(module).href)) as OnnxRuntime;
  ort.env.wasm.numThreads = threads;
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return { ort, session };
}

/**
 * A model of onnxruntime-web, of its `module` and an ONNX `file` on `threads`. What it gives runs a batch, padded to its
 * longest text, up to the last hidden states: pooling is not counted.
 * @throws Error where another model of this process has other threads
 */
export async function openSession(
  module: string,
  file: string,
  threads = 1,
): Promise<(batch: Batch) => Promise<void>> {
  const { ort, session } = await open(module, readFileSync(file), threads);
  const feeds = new Map<Batch, Record<string, Tensor>>();
  const feedOf = (batch: Batch): Record<string, Tensor> => {
    const longest = Math.max(...batch.map(({ length }) => length));
    const matrix = (value: (ids: readonly number[], i: number) => number): Tensor => {
      const data = batch.flatMap((ids) =>
        Array.from({ length: longest }, (_, i) => BigInt(value(ids, i))),
      );
      return new ort.Tensor("int64", BigInt64Array.from(data), [batch.length, longest]);
    };
    return {
      input_ids: matrix((ids, i) => ids[i] ?? 0),
      attention_mask: matrix((ids, i) => (i < ids.length ? 1 : 0)),
      token_type_ids: matrix(() => 0),
    };
  };
  return async (batch) => {
    const feed = feeds.get(batch) ?? feedOf(batch); // made once: a caller may keep its tensors
    feeds.set(batch, feed);
    const outputs = await session.run(feed);
    for (const tensor of Object.values(outputs)) tensor.dispose();
  };
}
