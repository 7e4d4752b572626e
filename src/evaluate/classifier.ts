/**
 * SentEval's logistic regression (Conneau & Kiela 2018, https://arxiv.org/abs/1803.05449) on the training kernels:
 *
 *   p = softmax(x Wᵀ + b),   loss = mean over the batch of -log p[label]  +  λ/2 (|W|² + |b|²)
 *
 * λ enters the gradient, as in torch.optim, and not the update as in AdamW.
 */
import { Arena, size, type Tensor } from "../runtime/arena.ts";
import { instantiate } from "../runtime/instantiate.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { linearScratch } from "../runtime/scratch.ts";
import { permutation, RandomStream, STREAM } from "../train/random.ts";

/** How SentEval trains its classifier. */
export interface Protocol {
  readonly folds: number;
  readonly optimizer: "adam" | "rmsprop";
  readonly batchSize: number;
  /** Checks without a better accuracy that are put up with, in all. */
  readonly tenacity: number;
  /** Epochs between checks. */
  readonly epochSize: number;
}

/** SimCSE's settings by the mode of its evaluation.py; `fast` is its dev and fasttest. */
export const PROTOCOLS: Readonly<Record<"test" | "fast", Protocol>> = {
  test: { folds: 10, optimizer: "adam", batchSize: 64, tenacity: 5, epochSize: 4 },
  fast: { folds: 5, optimizer: "rmsprop", batchSize: 128, tenacity: 3, epochSize: 2 },
};

const MAX_EPOCHS = 200;
const SEED = 1111;

/** torch.optim's defaults. RMSprop is Adam without momentum and, since 0.99^STEPS vanishes, without its correction. */
const OPTIMIZERS = {
  adam: { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, corrected: true },
  rmsprop: { learningRate: 1e-2, beta1: 0, beta2: 0.99, corrected: false },
} as const;
const STEPS = 1 << 20;
const EPSILON = 1e-8;

/** Examples: rows [dimension] and the class of each, counted from 0. */
export interface Examples {
  readonly rows: readonly Float32Array[];
  readonly labels: readonly number[];
}

/**
 * Trains one classifier after another in one memory. Nothing depends on what was trained before: each begins with the same
 * draws of the same seed.
 */
export class Classifier {
  readonly #k: Kernels;
  readonly #protocol: Protocol;
  readonly #dimension: number;
  readonly #inputs: number;
  readonly #classes: number;
  readonly #plan: Plan;
  readonly #x: Float32Array;
  readonly #logits: Float32Array;
  readonly #weights: Float32Array;
  readonly #gradients: Float32Array;

  /** `module` is the node binary, whose memory can be shared. */
  constructor(module: WebAssembly.Module, protocol: Protocol, dimension: number, classes: number) {
    this.#protocol = protocol;
    this.#dimension = dimension;
    this.#inputs = roundUp4(dimension);
    this.#classes = classes;
    this.#plan = planClassifier(protocol.batchSize, this.#inputs, roundUp4(classes));
    const { pages } = this.#plan;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    const floats = ({ ptr, shape }: Tensor): Float32Array =>
      new Float32Array(memory.buffer, ptr, size(shape));
    this.#k = instantiate<Kernels>(module, memory);
    this.#k.join(0, 1);
    this.#x = floats(this.#plan.x);
    this.#logits = floats(this.#plan.logits);
    this.#weights = floats(this.#plan.weights);
    this.#gradients = floats(this.#plan.gradients);
  }

  /**
   * Trains from fresh weights until the accuracy on `held` stops growing, and keeps the best.
   * @returns that accuracy, in [0, 1]
   */
  fit(train: Examples, held: Examples, l2: number): number {
    const { tenacity, epochSize } = this.#protocol;
    const random = new RandomStream(SEED, STREAM.weights);
    const order = new RandomStream(SEED, STREAM.order);
    this.#initialize(random);
    let best = -1;
    let kept = this.#weights.slice();
    let step = 0;
    let worse = 0;
    for (let epoch = 0; epoch <= MAX_EPOCHS; epoch += epochSize) {
      for (let e = 0; e < epochSize; e++) step = this.#epoch(train, l2, order, step);
      const accuracy = this.score(held);
      if (accuracy > best) {
        best = accuracy;
        kept = this.#weights.slice();
      } else if (worse++ >= tenacity) {
        break;
      }
    }
    this.#weights.set(kept);
    return best;
  }

  /** The class of each row. */
  predict(rows: readonly Float32Array[]): number[] {
    const classes: number[] = [];
    const width = roundUp4(this.#classes);
    for (let at = 0; at < rows.length; at += this.#protocol.batchSize) {
      const batch = rows.slice(at, at + this.#protocol.batchSize);
      this.#forward(batch);
      batch.forEach((_, row) => {
        const logits = this.#logits.subarray(row * width, row * width + this.#classes);
        let top = 0;
        for (let c = 1; c < logits.length; c++) if (logits[c]! > logits[top]!) top = c;
        classes.push(top);
      });
    }
    return classes;
  }

  /** The share of examples it gives their class, in [0, 1]. */
  score({ rows, labels }: Examples): number {
    const right = this.predict(rows).filter((label, i) => label === labels[i]).length;
    return right / rows.length;
  }

  /** Weights and biases [classes][dimension + 1], the bias last. */
  get parameters(): Float32Array[] {
    const biases = this.#weights.subarray(this.#inputs * roundUp4(this.#classes));
    return Array.from({ length: this.#classes }, (_, c) => {
      const begin = c * this.#inputs;
      return Float32Array.of(...this.#weights.subarray(begin, begin + this.#dimension), biases[c]!);
    });
  }

  /** As torch.nn.Linear: uniform in ±1/√dimension. What pads the shapes stays 0. */
  #initialize(random: RandomStream): void {
    const bound = 1 / Math.sqrt(this.#dimension);
    const draw = (): number => bound * (2 * random.uniform() - 1);
    for (const tensor of [this.#plan.weights, this.#plan.first, this.#plan.second, this.#plan.x]) {
      this.#k.zero(tensor.ptr, 4 * size(tensor.shape));
    }
    const biases = this.#inputs * roundUp4(this.#classes);
    for (let c = 0; c < this.#classes; c++) {
      for (let j = 0; j < this.#dimension; j++) this.#weights[c * this.#inputs + j] = draw();
      this.#weights[biases + c] = draw();
    }
  }

  #epoch({ rows, labels }: Examples, l2: number, random: RandomStream, before: number): number {
    const { batchSize, optimizer } = this.#protocol;
    const { learningRate, beta1, beta2, corrected } = OPTIMIZERS[optimizer];
    const { weights, gradients, first, second, norm, logits, x, scratch } = this.#plan;
    const outputs = roundUp4(this.#classes);
    const order = permutation(rows.length, random);
    let step = before;
    for (let at = 0; at < order.length; at += batchSize) {
      const picked = order.subarray(at, at + batchSize);
      this.#forward(Array.from(picked, (i) => rows[i]!));
      this.#lossGradient(Array.from(picked, (i) => labels[i]!));
      for (let i = 0; i < this.#gradients.length; i++) this.#gradients[i] = l2 * this.#weights[i]!;
      const bias = gradients.ptr + 4 * this.#inputs * outputs;
      // prettier-ignore
      {
        this.#k.linearBackwardWeight(gradients.ptr, bias, logits.ptr, x.ptr, picked.length, this.#inputs, outputs, scratch.ptr);
        this.#k.adamWStep(weights.ptr, gradients.ptr, first.ptr, second.ptr, norm.ptr, size(weights.shape), Infinity, learningRate, beta1, beta2, EPSILON, 0, corrected ? ++step : STEPS);
      }
    }
    return step;
  }

  #forward(rows: readonly Float32Array[]): void {
    const { weights, logits, x, scratch } = this.#plan;
    const outputs = roundUp4(this.#classes);
    // Element by element: `set` is several times slower into a memory that threads could share.
    rows.forEach((row, i) => {
      const begin = i * this.#inputs;
      for (let j = 0; j < row.length; j++) this.#x[begin + j] = row[j]!;
    });
    const bias = weights.ptr + 4 * this.#inputs * outputs;
    // prettier-ignore
    this.#k.linearForward(logits.ptr, 0, x.ptr, weights.ptr, bias, 0, rows.length, this.#inputs, outputs, 0, scratch.ptr);
  }

  /** Logits become the gradient of the mean loss: (softmax - one-hot) / rows, 0 for the classes that only pad. */
  #lossGradient(labels: readonly number[]): void {
    const logits = this.#logits;
    const width = roundUp4(this.#classes);
    labels.forEach((label, row) => {
      const begin = row * width;
      const end = begin + this.#classes;
      let top = -Infinity;
      for (let i = begin; i < end; i++) top = Math.max(top, logits[i]!);
      let sum = 0;
      for (let i = begin; i < end; i++) sum += Math.exp(logits[i]! - top);
      for (let i = begin; i < end; i++) {
        const probability = Math.exp(logits[i]! - top) / sum;
        logits[i] = (probability - (i - begin === label ? 1 : 0)) / labels.length;
      }
      for (let i = end; i < begin + width; i++) logits[i] = 0;
    });
  }
}

interface Plan {
  readonly pages: number;
  /** [outputs, inputs] and then [outputs] biases, as one run for the optimizer. */
  readonly weights: Tensor;
  readonly gradients: Tensor;
  readonly first: Tensor;
  readonly second: Tensor;
  /** Read by `adamWStep`, which does not clip here. */
  readonly norm: Tensor;
  readonly x: Tensor;
  readonly logits: Tensor;
  readonly scratch: Tensor;
}

/** The kernels want multiples of 4: inputs and classes are padded with zeros. */
function planClassifier(rows: number, inputs: number, outputs: number): Plan {
  const arena = new Arena();
  const parameters = (name: string): Tensor => arena.tensor(name, (inputs + 1) * outputs);
  return {
    weights: parameters("weights"),
    gradients: parameters("gradients"),
    first: parameters("first"),
    second: parameters("second"),
    norm: arena.tensor("norm", 1),
    x: arena.tensor("x", rows, inputs),
    logits: arena.tensor("logits", rows, outputs),
    scratch: arena.scratch("scratch", linearScratch(rows, inputs, outputs, 1)),
    pages: arena.pages,
  };
}

function roundUp4(n: number): number {
  return Math.ceil(n / 4) * 4;
}
