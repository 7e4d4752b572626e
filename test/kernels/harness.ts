/**
 * What the kernel tests share. A test writes a *program*: a function that lays tensors into the memory of a machine, calls
 * kernels and names the outputs. `run` executes it on one build target, `runTeam` (team.ts) on a team of threads; both
 * return copies of the outputs, after making sure that no byte around any tensor has changed. To add a case to a kernel,
 * add a line to the table of cases at the top of its test file.
 */
import { readFileSync } from "node:fs";
import type { Target } from "../../src/node/binaries.ts";
import { ARENA_BASE } from "../../src/runtime/arena.ts";
import { instantiate } from "../../src/runtime/instantiate.ts";
import type { Kernels } from "../../src/runtime/kernels.ts";

export type { Target };

/** The targets that hold every kernel; the first is the one others are compared with. */
export const TARGETS: readonly Target[] = ["node", "portable", "check"];

/** The targets that hold the forward kernels of inference. */
export const INFERENCE_TARGETS: readonly Target[] = ["node", "edge", "portable", "check"];

/** Boundaries of rows: nothing, one, the edges of tiles of 4, 5, 6 and 8, and of 64 rows. */
export const ROWS: readonly number[] = [0, 1, 3, 4, 5, 6, 7, 8, 63, 64, 65];

/** A tensor in the memory of a machine. */
export interface Tensor {
  readonly ptr: number;
  readonly shape: readonly number[];
  readonly dtype: "F32" | "I32" | "I8";
}

/** A copy of a tensor. */
export interface Result {
  readonly shape: readonly number[];
  readonly values: Float32Array | Int32Array | Int8Array;
}

export type Results<Name extends string> = Readonly<Record<Name, Result>>;

/** Lays tensors, calls kernels, names outputs. It may run before its calls do, so it reads no output. */
export type Program<Name extends string> = (machine: Machine) => Record<Name, Tensor>;

const PAGES = 1024; // 64 MiB
const PAD = 64; // bytes of sentinel on either side: 16 floats
const SENTINEL = 0x7fb5a5a5; // a NaN that no arithmetic produces

/** The linear memory of one target, in which tensors stand between sentinels. */
export class Machine {
  readonly k: Kernels;
  readonly memory: WebAssembly.Memory;
  /** Ranks that will make the calls: scratch is as large as they need, and no larger. */
  readonly ranks: number;
  #top = ARENA_BASE;
  #pads: { ptr: number; what: string }[] = [];
  readonly #low: Uint8Array;

  constructor(
    target: Target,
    memory: WebAssembly.Memory = newMemory(target),
    k: Kernels = instantiate<Kernels>(compiled(target), memory),
    ranks = 1,
  ) {
    this.memory = memory;
    this.ranks = ranks;
    this.k = k;
    this.#low = new Uint8Array(memory.buffer).slice(0, ARENA_BASE);
  }

  /** Forgets all tensors. */
  reset(): void {
    this.#top = ARENA_BASE;
    this.#pads = [];
  }

  /** A float32 tensor that holds `values`. */
  input(values: ArrayLike<number>, ...shape: number[]): Tensor {
    return this.#place("F32", shape, values);
  }

  /** An int32 tensor that holds `values`. */
  ints(values: ArrayLike<number>): Tensor {
    return this.#place("I32", [values.length], values);
  }

  /** A float32 tensor full of NaN: a kernel that reads it, or leaves a hole, is found out. */
  output(...shape: number[]): Tensor {
    return this.#place("F32", shape);
  }

  /** An int8 tensor that holds `values`. */
  codes(values: ArrayLike<number>, ...shape: number[]): Tensor {
    return this.#place("I8", shape, values);
  }

  /** An int8 tensor to be written: packed weights, codes. */
  bytes(...shape: number[]): Tensor {
    return this.#place("I8", shape);
  }

  /** Address of so many bytes of scratch, full of NaN. */
  scratch(bytes: number): number {
    return this.#place("I8", [bytes]).ptr;
  }

  read({ ptr, shape, dtype }: Tensor): Result {
    return { shape, values: view(this.memory.buffer, dtype, ptr, size(shape)).slice() };
  }

  /** Throws if a kernel wrote where it should not: round a tensor, on the null line or on static data. */
  expectIntact(): void {
    for (const { ptr, what } of this.#pads) {
      const words = new Uint32Array(this.memory.buffer, ptr, PAD / 4);
      const at = words.findIndex((word) => word !== SENTINEL);
      if (at >= 0) throw new Error(`sentinel ${at} of 16 ${what} was overwritten`);
    }
    const low = new Uint8Array(this.memory.buffer, 0, ARENA_BASE);
    const at = low.findIndex((byte, i) => byte !== this.#low[i] && !isControlWord(i));
    if (at >= 0) throw new Error(`byte ${at}, below the arena, was overwritten`);
  }

  #place(dtype: Tensor["dtype"], shape: readonly number[], values?: ArrayLike<number>): Tensor {
    const count = size(shape);
    if (values && values.length !== count) {
      throw new RangeError(`[${shape.join(", ")}] holds ${count} values, not ${values.length}`);
    }
    const before = this.#top;
    const ptr = before + PAD;
    const behind = ptr + Math.ceil((count * (dtype === "I8" ? 1 : 4)) / 4) * 4;
    this.#top = Math.ceil((behind + PAD) / PAD) * PAD;
    if (this.#top > this.memory.buffer.byteLength) {
      throw new RangeError(`the tensors of this case need more than ${PAGES} pages; raise PAGES`);
    }
    new Uint32Array(this.memory.buffer, before, (behind + PAD - before) / 4).fill(SENTINEL);
    if (values) view(this.memory.buffer, dtype, ptr, count).set(values);
    const what = `tensor ${this.#pads.length / 2} [${shape.join(", ")}]`;
    this.#pads.push(
      { ptr: before, what: `before ${what}` },
      { ptr: behind, what: `behind ${what}` },
    );
    return { ptr, shape, dtype };
  }
}

/** The words of the barrier, which a team changes. */
function isControlWord(address: number): boolean {
  return address >= 64 && address < 256;
}

function view(
  buffer: ArrayBufferLike,
  dtype: Tensor["dtype"],
  ptr: number,
  count: number,
): Float32Array | Int32Array | Int8Array {
  if (dtype === "F32") return new Float32Array(buffer, ptr, count);
  return dtype === "I32" ? new Int32Array(buffer, ptr, count) : new Int8Array(buffer, ptr, count);
}

export function size(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}

const modules = new Map<Target, WebAssembly.Module>();

export function compiled(target: Target): WebAssembly.Module {
  let module = modules.get(target);
  if (!module) {
    module = new WebAssembly.Module(readFileSync(`build/${target}.wasm`));
    modules.set(target, module);
  }
  return module;
}

export function newMemory(target: Target): WebAssembly.Memory {
  return new WebAssembly.Memory(
    target === "node"
      ? { initial: PAGES, maximum: PAGES, shared: true }
      : { initial: PAGES, maximum: PAGES },
  );
}

const machines = new Map<Target, Machine>();

/** Executes a program on one target, alone. */
export function run<Name extends string>(target: Target, program: Program<Name>): Results<Name> {
  let machine = machines.get(target);
  if (!machine) {
    machine = new Machine(target);
    machines.set(target, machine);
  }
  machine.reset();
  const outputs = program(machine);
  machine.expectIntact();
  return collect(machine, outputs);
}

/** Copies the outputs of a program. */
export function collect<Name extends string>(
  machine: Machine,
  outputs: Record<Name, Tensor>,
): Results<Name> {
  return mapValues(outputs, (tensor) => machine.read(tensor));
}

function mapValues<Name extends string, From, To>(
  record: Record<Name, From>,
  f: (value: From) => To,
): Record<Name, To> {
  const entries = Object.entries(record) as [Name, From][];
  return Object.fromEntries(entries.map(([name, value]) => [name, f(value)])) as Record<Name, To>;
}

/** Computes a value at the first call and keeps it: one oracle serves all targets. */
export function once<Value>(compute: () => Value): () => Value {
  let kept: { value: Value } | undefined;
  return () => (kept ??= { value: compute() }).value;
}

/** |found - expected| ≤ absolute + relative · |expected|. */
export interface Tolerance {
  readonly absolute: number;
  readonly relative?: number;
}

/** Compares every named result with its oracle, and reports the worst element. */
export function expectClose<Name extends string>(
  found: Results<Name>,
  expected: Readonly<Record<NoInfer<Name>, ArrayLike<number>>>,
  { absolute, relative = 0 }: Tolerance,
): void {
  for (const [name, { shape, values }] of Object.entries(found) as [Name, Result][]) {
    const want = expected[name];
    if (want.length !== values.length) {
      throw new Error(`${name} has ${values.length} elements, its oracle ${want.length}`);
    }
    let worst = 0;
    let at = -1;
    for (let i = 0; i < values.length; i++) {
      const error = Math.abs(values[i]! - want[i]!);
      const allowed = absolute + relative * Math.abs(want[i]!);
      const times = error <= allowed ? 0 : Number.isNaN(error) ? Infinity : error / allowed;
      if (times > worst) [worst, at] = [times, i];
    }
    if (at >= 0) {
      throw new Error(
        `${name}${describeIndex(at, shape)}: found ${values[at]}, expected ${want[at]}; the error ` +
          `${Math.abs(values[at]! - want[at]!).toExponential(2)} is ${worst.toPrecision(3)} times the tolerance ` +
          `${absolute} + ${relative} · |expected|`,
      );
    }
  }
}

/** Compares bit for bit. */
export function expectSameBits<Name extends string>(
  found: Results<Name>,
  expected: Results<NoInfer<Name>>,
  label: string,
): void {
  for (const [name, { shape, values }] of Object.entries(found) as [Name, Result][]) {
    const want = expected[name].values;
    if (want.length !== values.length) {
      throw new Error(`${label}: ${name} has ${values.length} elements, not ${want.length}`);
    }
    const a = new Uint8Array(values.buffer);
    const b = new Uint8Array(want.buffer);
    const byte = a.findIndex((value, i) => value !== b[i]);
    if (byte < 0) continue;
    const at = Math.floor(byte / values.BYTES_PER_ELEMENT);
    throw new Error(
      `${label}: ${name}${describeIndex(at, shape)} is ${values[at]}, not ${want[at]}, bit for bit`,
    );
  }
}

function describeIndex(index: number, shape: readonly number[]): string {
  const indices: number[] = [];
  let rest = index;
  for (const n of shape.toReversed()) {
    indices.unshift(rest % n);
    rest = Math.floor(rest / n);
  }
  return `[${indices.join(", ")}] of [${shape.join(", ")}]`;
}

/** Rows [first, last) of a result, as a result. */
export function rowsOf({ shape, values }: Result, first: number, last: number): Result {
  const [, ...rest] = shape;
  const stride = size(rest);
  return { shape: [last - first, ...rest], values: values.slice(first * stride, last * stride) };
}

/** Pseudorandom float32 values, uniform in [low, high): a function of the seed alone (mulberry32). */
export function uniform(seed: number, count: number, low = -1, high = 1): Float32Array {
  let state = Math.imul(seed + 1, 0x9e3779b9);
  return Float32Array.from({ length: count }, () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return low + (high - low) * (((t ^ (t >>> 14)) >>> 0) / 2 ** 32);
  });
}

/** Pseudorandom integers in [0, below). */
export function integers(seed: number, count: number, below: number): Int32Array {
  return Int32Array.from(uniform(seed, count, 0, 1), (u) =>
    Math.min(below - 1, Math.floor(u * below)),
  );
}

/** [0, l₀, l₀ + l₁, …]: where the sequences of a ragged batch begin. */
export function offsetsOf(lengths: readonly number[]): Int32Array {
  const offsets = new Int32Array(lengths.length + 1);
  lengths.forEach((length, i) => (offsets[i + 1] = offsets[i]! + length));
  return offsets;
}
