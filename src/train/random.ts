/**
 * Random numbers for what the host decides: initial weights and the order of the data. A state is three numbers, so a
 * stream is named by its seed and purpose, and a resumed run draws the same ones without replaying the others.
 */
export class RandomStream {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** Streams of different seeds or labels are independent. */
  constructor(seed: number, stream: number, index = 0) {
    this.#a = seed | 0;
    this.#b = stream | 0;
    this.#c = index | 0;
    for (let i = 0; i < 15; i++) this.uint32();
  }

  /** sfc32 (Chris Doty-Humphrey's Small Fast Chaotic generator, PractRand). */
  uint32(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    return sum >>> 0;
  }

  /** Uniform in [0, 1). */
  uniform(): number {
    return this.uint32() / 2 ** 32;
  }

  /** A whole number in [0, n). */
  below(n: number): number {
    return Math.floor(this.uniform() * n);
  }

  /** Standard normal (Box & Muller 1958). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }
}

/** What a stream is for; two purposes never share numbers. */
export const STREAM = {
  weights: 1,
  order: 2,
  source: 3,
  choice: 4,
  augment: 5,
  masking: 6,
  mlmHead: 7,
  pooler: 8,
} as const;

/** A permutation of 0 … n - 1 (Fisher & Yates). */
export function permutation(n: number, random: RandomStream): Uint32Array {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = random.below(i + 1);
    const swap = order[i]!;
    order[i] = order[j]!;
    order[j] = swap;
  }
  return order;
}
