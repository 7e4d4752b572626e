export type ElementType = "F32" | "I32" | "I8";

/** A named region of wasm linear memory; `ptr` is a byte address. */
export interface Tensor {
  readonly name: string;
  readonly ptr: number;
  readonly shape: readonly number[];
  readonly dtype: ElementType;
}

const ALIGNMENT = 64; // a cache line: no two ranks ever share one across tensors
const MEMORY32 = 2 ** 32;
const PAGE = 65536;

/** Where plans begin: below lie the null line, the control words and the static data of the kernels. */
export const ARENA_BASE = 0x10000;

/**
 * Hands out addresses, never memory: a plan is a pure function of the model and batch sizes, so it can be printed,
 * tested and costed before a single page exists. Nothing is ever freed; regions die with the arena.
 */
export class Arena {
  readonly tensors: Tensor[] = [];
  #top: number;

  constructor(base: number = ARENA_BASE) {
    this.#top = base;
  }

  /** Reserves a float32 tensor. */
  tensor(name: string, ...shape: number[]): Tensor {
    return this.reserve(name, "F32", shape);
  }

  /** Reserves a tensor of any element type. */
  reserve(name: string, dtype: ElementType, shape: readonly number[]): Tensor {
    const ptr = alignUp(this.#top);
    const bytes = size(shape) * (dtype === "I8" ? 1 : 4);
    if (ptr + bytes > MEMORY32) {
      throw new RangeError(
        `${name} [${shape.join(", ")}] ends at ${((ptr + bytes) / 2 ** 30).toFixed(2)} GiB, past the 4 GiB of a wasm ` +
          `memory; lower the batch size or the sequence length, or train in chunks`,
      );
    }
    this.#top = ptr + bytes;
    const tensor = { name, ptr, shape, dtype };
    this.tensors.push(tensor);
    return tensor;
  }

  /** Reserves scratch of so many bytes. */
  scratch(name: string, bytes: number): Tensor {
    return this.reserve(name, "I8", [bytes]);
  }

  /** Plans that are never in use at the same time, in the same place. */
  overlay<T>(...plans: readonly (() => T)[]): T[] {
    const base = this.#top;
    let end = base;
    const planned = plans.map((plan) => {
      this.#top = base;
      const result = plan();
      end = Math.max(end, this.#top);
      return result;
    });
    this.#top = end;
    return planned;
  }

  /** The next address a tensor may begin at. */
  get top(): number {
    return alignUp(this.#top);
  }

  /** Pages a `WebAssembly.Memory` needs to hold every tensor planned so far. */
  get pages(): number {
    return Math.ceil(this.#top / PAGE);
  }
}

/** Part of a tensor, from its `offset`-th element on, under a name of its own. */
export function view(tensor: Tensor, name: string, offset: number, ...shape: number[]): Tensor {
  return {
    name,
    ptr: tensor.ptr + offset * (tensor.dtype === "I8" ? 1 : 4),
    shape,
    dtype: tensor.dtype,
  };
}

export function size(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}

function alignUp(address: number): number {
  return Math.ceil(address / ALIGNMENT) * ALIGNMENT;
}
