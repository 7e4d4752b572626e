/**
 * SentEval's logistic regression (Conneau & Kiela 2018, https://arxiv.org/abs/1803.05449) on the training kernels:
 *
 *   p = softmax(x Wᵀ + b),   loss = mean over the batch of -log p[label]  +  λ/2 (|W|² + |b|²)
 *
 * λ enters the gradient, as in torch.optim, and not the update as in AdamW. Regressions that differ only in λ see the same
 * batches, so they are trained as columns of one product.
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
 * Trains regressions one after another in one memory. Nothing depends on what was trained before: each begins with the same
 * draws of the same seed, and ends with the same bits whatever else is trained beside it.
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
  /** One for each regression, as of the last `fit`. */
  #l2s: readonly number[] = [0];

  /** `module` is the node binary, whose memory can be shared; `most` is how many regressions `fit` may train at once. */
  constructor(
    module: WebAssembly.Module,
    protocol: Protocol,
    dimension: number,
    classes: number,
    most = 1,
  ) {
    this.#protocol = protocol;
    this.#dimension = dimension;
    this.#inputs = roundUp4(dimension);
    this.#classes = classes;
    this.#plan = planClassifier(protocol.batchSize, this.#inputs, roundUp4(most * classes));
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
   * Trains from fresh weights with each λ until its accuracy on `held` stops growing, and keeps the best.
   * @returns those accuracies, in [0, 1]
   */
  fit(train: Examples, held: Examples, l2s: readonly number[]): number[] {
    const { tenacity, epochSize } = this.#protocol;
    this.#l2s = l2s;
    this.#initialize(new RandomStream(SEED, STREAM.weights));
    const order = new RandomStream(SEED, STREAM.order);
    const runs = l2s.map(() => ({ best: -1, worse: 0, kept: this.#weights }));
    let step = 0;
    for (let epoch = 0; epoch <= MAX_EPOCHS; epoch += epochSize) {
      for (let e = 0; e < epochSize; e++) step = this.#epoch(train, order, step);
      const weights = this.#weights.slice();
      for (const [r, accuracy] of this.score(held).entries()) {
        const run = runs[r]!;
        if (run.worse > tenacity) continue;
        if (accuracy > run.best) Object.assign(run, { best: accuracy, kept: weights });
        else run.worse++;
      }
      if (runs.every(({ worse }) => worse > tenacity)) break;
    }
    runs.forEach(({ kept }, r) => this.#copy(kept, r));
    return runs.map(({ best }) => best);
  }

  /** The class that each regression gives each row: [λ][rows]. */
  predict(rows: readonly Float32Array[]): number[][] {
    const { batchSize } = this.#protocol;
    const found = this.#l2s.map((): number[] => []);
    for (let at = 0; at < rows.length; at += batchSize) {
      const count = Math.min(batchSize, rows.length - at);
      for (let row = 0; row < count; row++) this.#load(row, rows[at + row]!);
      this.#forward(count);
      for (let row = 0; row < count; row++) {
        found.forEach((classes, r) => {
          const begin = row * this.#outputs + r * this.#classes;
          let top = 0;
          for (let c = 1; c < this.#classes; c++) {
            if (this.#logits[begin + c]! > this.#logits[begin + top]!) top = c;
          }
          classes.push(top);
        });
      }
    }
    return found;
  }

  /** The share of examples to which each regression gives their class, in [0, 1]. */
  score({ rows, labels }: Examples): number[] {
    return this.predict(rows).map(
      (classes) => classes.filter((label, i) => label === labels[i]).length / rows.length,
    );
  }

  /** Weights and biases of the first regression [classes][dimension + 1], the bias last. */
  get parameters(): Float32Array[] {
    return Array.from({ length: this.#classes }, (_, c) => {
      const begin = c * this.#inputs;
      const bias = this.#weights[this.#biases + c]!;
      return Float32Array.of(...this.#weights.subarray(begin, begin + this.#dimension), bias);
    });
  }

  /** Columns of the product: the classes of all regressions side by side, and then what pads them. */
  get #outputs(): number {
    return roundUp4(this.#l2s.length * this.#classes);
  }

  /** Where the biases begin among the weights. */
  get #biases(): number {
    return this.#inputs * this.#outputs;
  }

  /** As torch.nn.Linear: uniform in ±1/√dimension, the same for each regression. What pads the shapes stays 0. */
  #initialize(random: RandomStream): void {
    const bound = 1 / Math.sqrt(this.#dimension);
    const draw = (): number => bound * (2 * random.uniform() - 1);
    const { weights, gradients, first, second, x } = this.#plan;
    for (const tensor of [weights, gradients, first, second, x]) {
      this.#k.zero(tensor.ptr, 4 * size(tensor.shape));
    }
    for (let c = 0; c < this.#classes; c++) {
      for (let j = 0; j < this.#dimension; j++) this.#weights[c * this.#inputs + j] = draw();
      this.#weights[this.#biases + c] = draw();
    }
    for (let r = 1; r < this.#l2s.length; r++) this.#copy(this.#weights, r, 0);
  }

  /** Gives a regression the weights of that of `from` in another copy of all weights. */
  #copy(source: Float32Array, to: number, from = to): void {
    const length = this.#classes * this.#inputs;
    const biases = this.#biases;
    this.#weights.set(source.subarray(from * length, (from + 1) * length), to * length);
    for (let c = 0; c < this.#classes; c++) {
      this.#weights[biases + to * this.#classes + c] = source[biases + from * this.#classes + c]!;
    }
  }

  #epoch({ rows, labels }: Examples, random: RandomStream, before: number): number {
    const { batchSize, optimizer } = this.#protocol;
    const { learningRate, beta1, beta2, corrected } = OPTIMIZERS[optimizer];
    const { weights, gradients, first, second, norm, logits, x, scratch } = this.#plan;
    const outputs = this.#outputs;
    const bias = gradients.ptr + 4 * this.#biases;
    const order = permutation(rows.length, random);
    let step = before;
    for (let at = 0; at < order.length; at += batchSize) {
      const count = Math.min(batchSize, order.length - at);
      for (let row = 0; row < count; row++) this.#load(row, rows[order[at + row]!]!);
      this.#forward(count);
      for (let row = 0; row < count; row++)
        this.#lossGradient(row, labels[order[at + row]!]!, count);
      this.#penaltyGradient();
      // prettier-ignore
      {
        this.#k.linearBackwardWeight(gradients.ptr, bias, logits.ptr, x.ptr, count, this.#inputs, outputs, scratch.ptr);
        this.#k.adamWStep(weights.ptr, gradients.ptr, first.ptr, second.ptr, norm.ptr, this.#biases + outputs, Infinity, learningRate, beta1, beta2, EPSILON, 0, corrected ? ++step : STEPS);
      }
    }
    return step;
  }

  /** Element by element: `set` is several times slower into a memory that threads could share. */
  #load(row: number, values: Float32Array): void {
    const begin = row * this.#inputs;
    for (let j = 0; j < values.length; j++) this.#x[begin + j] = values[j]!;
  }

  #forward(rows: number): void {
    const { weights, logits, x, scratch } = this.#plan;
    const bias = weights.ptr + 4 * this.#biases;
    // prettier-ignore
    this.#k.linearForward(logits.ptr, 0, x.ptr, weights.ptr, bias, 0, rows, this.#inputs, this.#outputs, 0, scratch.ptr);
  }

  /** A row's logits become the gradient of the mean loss: (softmax - one-hot) / rows. Those that only pad are 0. */
  #lossGradient(row: number, label: number, rows: number): void {
    const logits = this.#logits;
    for (let r = 0; r < this.#l2s.length; r++) {
      const begin = row * this.#outputs + r * this.#classes;
      const end = begin + this.#classes;
      let top = -Infinity;
      for (let i = begin; i < end; i++) top = Math.max(top, logits[i]!);
      let sum = 0;
      for (let i = begin; i < end; i++) sum += Math.exp(logits[i]! - top);
      for (let i = begin; i < end; i++) {
        const probability = Math.exp(logits[i]! - top) / sum;
        logits[i] = (probability - (i - begin === label ? 1 : 0)) / rows;
      }
    }
  }

  /** Begins the gradients with λ times the weights. */
  #penaltyGradient(): void {
    const length = this.#classes * this.#inputs;
    this.#l2s.forEach((l2, r) => {
      for (let i = r * length; i < (r + 1) * length; i++) {
        this.#gradients[i] = l2 * this.#weights[i]!;
      }
      const begin = this.#biases + r * this.#classes;
      for (let i = begin; i < begin + this.#classes; i++) {
        this.#gradients[i] = l2 * this.#weights[i]!;
      }
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
