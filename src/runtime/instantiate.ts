import type { InferenceKernels } from "./inference-kernels.ts";

/**
 * Instantiates a compiled kernel binary over a memory that the host made; `K` is what the binary exports, the training
 * kernels or those of inference. Synchronous, because a Worker may do it inside a request, and because a rank has
 * nothing else to do meanwhile.
 */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the caller knows the binary
export function instantiate<K extends InferenceKernels>(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
): K {
  // Only the check binary imports `abort`, for its assertions; AssemblyScript strings are UTF-16 behind their length.
  const text = (address: number): string => {
    const bytes = new DataView(memory.buffer).getUint32(address - 4, true);
    return String.fromCharCode(...new Uint16Array(memory.buffer, address, bytes / 2));
  };
  const abort = (message: number, file: number, line: number, column: number): never => {
    throw new Error(`internal: ${text(message)} (${text(file)}:${line}:${column})`);
  };
  return new WebAssembly.Instance(module, { env: { memory, abort } }).exports as unknown as K;
}
