import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseSafetensors, toFloat32 } from "../../src/files/safetensors.ts";
import { planBatch, writeBatch } from "../../src/model/batch.ts";
import {
  type EncoderConfig,
  isOfFirsts,
  type ModelConfig,
  type Pooling,
  POOLINGS,
  parseConfig,
} from "../../src/model/config.ts";
import { encoderForward, planActivations, poolForward } from "../../src/model/encoder.ts";
import { type ParameterSet, planParameters } from "../../src/model/parameters.ts";
import { allocateEncoders } from "../../src/model/load-encoders.ts";
import { SentenceEncoder } from "../../src/model/sentence-encoder.ts";
import { storeWeights } from "../../src/model/weights.ts";
import { Arena, size, type Tensor } from "../../src/runtime/arena.ts";
import {
  planTraining,
  readLoss,
  type StepHeader,
  type StepOptions,
  trainStep,
  writeTrainingBatch,
} from "../../src/train/step.ts";
import { uniform } from "../kernels/harness.ts";
import { oneRank } from "./rank.ts";

/** The whole encoder against PyTorch in float64; `test/golden/README.md` says how the numbers were made. */
const golden = JSON.parse(readFileSync("test/golden/encoder.json", "utf8"));
const encoder: EncoderConfig = parseConfig(golden.config, "test/golden/encoder.json").encoder;

function read(file: string): Map<string, Float32Array> {
  const { tensors } = parseSafetensors(readFileSync(`test/golden/${file}`), file);
  return new Map([...tensors].map(([name, tensor]) => [name, toFloat32(tensor)]));
}
const initial = read("encoder.safetensors");

function start(target: string, pooling: Pooling, changes: Partial<StepOptions> = {}) {
  const options: StepOptions = {
    encoder,
    pooling,
    batchSize: 8,
    columns: 2,
    maxLength: 24,
    temperature: golden.temperature,
    hardNegativeWeight: 0,
    dropout: true,
    seed: golden.seed,
    beta1: golden.curve.betas[0],
    beta2: golden.curve.betas[1],
    epsilon: golden.curve.epsilon,
    weightDecay: golden.curve.weightDecay,
    maxGradientNorm: golden.curve.maxGradientNorm,
    ...changes,
  };
  const plan = planTraining(options, 1);
  const { k, buffer } = oneRank(target, plan.arena.pages);
  setInitial(buffer, plan.model.weights);
  const step = (sequences: number[][], header: Omit<StepHeader, "touched">): void => {
    new Int32Array(buffer, plan.objective.ids.ptr, sequences.length).set(
      sequences.map((ids) => sequences.findIndex((other) => other.join() === ids.join())),
    );
    const { touched } = writeTrainingBatch(buffer, plan, options, sequences);
    trainStep(k, buffer, plan, options, { ...header, touched });
  };
  const settle = (last: number): void =>
    trainStep(k, buffer, plan, options, { rows: 0, touched: 0, step: last, learningRate: 0 });
  return { plan, buffer, step, settle };
}

/** Of two layers both averages of two are the same. */
const goldenName = (pooling: Pooling): Pooling =>
  pooling === "avg_top2" ? "avg_first_last" : pooling;

function setInitial(buffer: ArrayBufferLike, { named }: ParameterSet): void {
  for (const tensor of named) floats(buffer, tensor).set(initial.get(tensor.name)!);
}

function floats(buffer: ArrayBufferLike, tensor: Tensor): Float32Array {
  return new Float32Array(buffer, tensor.ptr, size(tensor.shape));
}

/** Largest difference, and where it is. */
function worst(
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
): { error: number; index: number } {
  let result = { error: 0, index: -1 };
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(found[i]! - expected[i]!);
    if (!(error <= result.error)) result = { error, index: i };
  }
  return result;
}

function gradients(
  buffer: ArrayBufferLike,
  g: ParameterSet,
  expected: Map<string, Float32Array>,
): void {
  for (const tensor of g.named) {
    const name = tensor.name;
    const want = expected.get(name);
    if (!want) throw new Error(`${name} has no golden gradient`);
    const scale = Math.max(1e-2, ...want.map(Math.abs));
    const { error, index } = worst(floats(buffer, tensor), want);
    expect(error / scale, `${name}[${index}], largest element ${scale}`).toBeLessThan(1e-5);
  }
}

describe.each(["node", "portable", "check"])("%s: a tiny encoder equals PyTorch", (target) => {
  it("in the hidden states and the embeddings of every pooler, to 3e-6", () => {
    const { sentences } = golden;
    const limits = { tokens: 24 * sentences.length, sequences: sentences.length, maxLength: 24 };
    for (const pooling of POOLINGS) {
      const arena = new Arena();
      const p = planParameters(arena, encoder, true);
      const batch = planBatch(arena, limits);
      const a = planActivations(arena, encoder, limits, pooling, 1);
      const y = arena.tensor("y", sentences.length, encoder.hiddenSize);
      const { k, buffer } = oneRank(target, arena.pages);
      setInitial(buffer, p);
      const tokens = writeBatch(buffer, batch, limits, encoder.vocabSize, sentences);
      const batchSize = { tokens, sequences: sentences.length };
      const off = { seed: 0, step: 0, enabled: false };
      const x = encoderForward(k, encoder, p, a, batch, batchSize, 24, off);
      const states = [a.embedded, ...a.layers.map((layer) => layer.output)];
      // Poolers of the first token have no last layer of the others.
      states.slice(0, isOfFirsts(pooling) ? -1 : undefined).forEach((state, n) => {
        const want = golden.forward.hiddenStates[n].flat();
        expect(
          worst(floats(buffer, state).subarray(0, want.length), want).error,
          `layer ${n}`,
        ).toBeLessThan(3e-6);
      });
      poolForward(k, encoder.hiddenSize, pooling, p, a, batch, y.ptr, x, batchSize);
      const want = golden.forward.embeddings[goldenName(pooling)].flat();
      expect(worst(floats(buffer, y), want).error, pooling).toBeLessThan(3e-6);
    }
  });

  it.each(["cls", "avg", "avg_first_last", "avg_top2", "avg_embeddings_last"] as const)(
    "in the loss and every gradient by name with dropout and pooling %s, to 1e-5",
    (pooling) => {
      const { plan, buffer, step } = start(target, pooling);
      const rows = golden.sentences.length;
      step([...golden.sentences, ...golden.sentences], { rows, step: 1, learningRate: 0 });
      const named = goldenName(pooling);
      expect(readLoss(buffer, plan).loss).toBeCloseTo(golden.loss[named].loss, 5);
      gradients(buffer, plan.model.gradients, read(`gradients-${named}.safetensors`));
    },
  );

  it("in the loss and the embeddings' gradient with weighted hard negatives, to 1e-5", () => {
    const { weight, anchors, positives, negatives, loss, gradient } = golden.hardNegatives;
    const changes = {
      columns: 3,
      batchSize: 4,
      dropout: false,
      hardNegativeWeight: weight,
    } as const;
    const { plan, buffer, step } = start(target, "avg", changes);
    step([...anchors, ...positives, ...negatives], { rows: 4, step: 1, learningRate: 0 });
    expect(readLoss(buffer, plan).loss).toBeCloseTo(loss, 5);
    expect(worst(floats(buffer, plan.dVectors), gradient.flat()).error).toBeLessThan(1e-5);
  });

  it("in ten steps of the loss curve, to 1e-5, and in the weights after them, to 3e-6", () => {
    const { plan, buffer, step, settle } = start(target, "cls");
    const { batches, learningRates, losses, gradientNorms, final } = golden.curve;
    batches.forEach((sentences: number[][], i: number) => {
      const header = { rows: sentences.length, step: i + 1, learningRate: learningRates[i] };
      step([...sentences, ...sentences], header);
      const { loss, norm } = readLoss(buffer, plan);
      expect(Math.abs(loss / losses[i] - 1), `loss of step ${i + 1}`).toBeLessThan(1e-5);
      expect(Math.abs(norm / gradientNorms[i] - 1), `norm of step ${i + 1}`).toBeLessThan(1e-5);
    });
    settle(batches.length);
    for (const tensor of plan.model.weights.named) {
      // Its gradient is zero in exact arithmetic, since softmax ignores a shift: Adam would normalise mere rounding.
      if (tensor.name.endsWith("key.bias")) continue;
      const values = floats(buffer, tensor);
      const { norm, first } = final[tensor.name];
      expect(worst(values.subarray(0, 4), first).error, tensor.name).toBeLessThan(3e-6);
      expect(Math.abs(Math.hypot(...values) / norm - 1), tensor.name).toBeLessThan(1e-6);
    }
  });
});

describe.each(["node", "portable"])("%s: the tanh form of GELU", (target) => {
  const tanhGelu = { ...encoder, tanhGelu: true };

  it("gives training's vectors to inference, and others than the exact form", () => {
    const { sentences } = golden;
    const limits = { tokens: 24 * sentences.length, sequences: sentences.length, maxLength: 24 };
    const arena = new Arena();
    const p = planParameters(arena, tanhGelu, true);
    const batch = planBatch(arena, limits);
    const a = planActivations(arena, tanhGelu, limits, "avg", 1);
    const y = arena.tensor("y", sentences.length, encoder.hiddenSize);
    const { k, buffer } = oneRank(target, arena.pages);
    setInitial(buffer, p);
    const tokens = writeBatch(buffer, batch, limits, encoder.vocabSize, sentences);
    const counts = { tokens, sequences: sentences.length };
    const off = { seed: 0, step: 0, enabled: false };
    const x = encoderForward(k, tanhGelu, p, a, batch, counts, 24, off);
    poolForward(k, encoder.hiddenSize, "avg", p, a, batch, y.ptr, x, counts);

    const module = new WebAssembly.Module(readFileSync(`build/${target}.wasm`));
    const model = { ...parseConfig(golden.config, "golden"), encoder: tanhGelu };
    const { tensors } = parseSafetensors(readFileSync("test/golden/encoder.safetensors"), "golden");
    const memory = allocateEncoders(module, model, tensors, "golden", {
      shared: target === "node",
    });
    const vectors = new SentenceEncoder(module, model, memory).encode(sentences, {
      normalize: false,
    });
    const served = vectors.flatMap((vector) => [...vector]);
    expect(worst(served, floats(buffer, y)).error).toBeLessThan(2e-6);
    expect(worst(served, golden.forward.embeddings.avg.flat()).error).toBeGreaterThan(1e-5);
  });

  it("has a gradient whose square is the slope of the loss along it, to 1 %", () => {
    const { plan, buffer, step } = start(target, "avg", { encoder: tanhGelu, dropout: false });
    const pairs = golden.curve.batches[0].slice(0, 4);
    const loss = (): number => {
      step(pairs, { rows: pairs.length / 2, step: 1, learningRate: 0 });
      return readLoss(buffer, plan).loss;
    };
    const { weights, gradients: g } = plan.model;
    const layers = ({ named }: ParameterSet): Tensor[] =>
      named.filter(({ name }) => name.startsWith("encoder.layer"));
    loss();
    const gradient = layers(g).map((tensor) => floats(buffer, tensor).slice());
    const square = gradient.reduce((sum, values) => sum + Math.hypot(...values) ** 2, 0);
    const shifted = (by: number): number => {
      layers(weights).forEach((tensor, i) => {
        const values = floats(buffer, tensor);
        gradient[i]!.forEach((d, j) => (values[j]! += by * d));
      });
      return loss();
    };
    const h = 5e-3 / Math.sqrt(square);
    const slope = (shifted(h) - shifted(-2 * h)) / (2 * h);
    expect(Math.abs(slope / square - 1)).toBeLessThan(0.01);
  });
});

describe("an average of two layers", () => {
  const cases = [1, 2, 3, 4].flatMap((numLayers) =>
    (["avg_top2", "avg_first_last", "avg_embeddings_last"] as const).map((pooling) => ({
      numLayers,
      pooling,
    })),
  );

  it.each(cases)("has inference's vectors in training: %o", ({ numLayers, pooling }) => {
    const { sentences } = golden;
    const shape = { ...encoder, numLayers };
    const limits = { tokens: 24 * sentences.length, sequences: sentences.length, maxLength: 24 };
    const arena = new Arena();
    const p = planParameters(arena, shape, false);
    const batch = planBatch(arena, limits);
    const a = planActivations(arena, shape, limits, pooling, 1);
    const y = arena.tensor("y", sentences.length, encoder.hiddenSize);
    const { k, buffer } = oneRank("node", arena.pages);
    p.named.forEach((tensor, i) => {
      const gain = tensor.name.endsWith("LayerNorm.weight") ? 1 : 0;
      floats(buffer, tensor).set(uniform(i, size(tensor.shape), -0.3, 0.3).map((x) => gain + x));
    });
    const tokens = writeBatch(buffer, batch, limits, encoder.vocabSize, sentences);
    const counts = { tokens, sequences: sentences.length };
    const off = { seed: 0, step: 0, enabled: false };
    const x = encoderForward(k, shape, p, a, batch, counts, 24, off);
    poolForward(k, encoder.hiddenSize, pooling, p, a, batch, y.ptr, x, counts);

    const module = new WebAssembly.Module(readFileSync("build/node.wasm"));
    const model = { ...parseConfig(golden.config, "golden"), encoder: shape, pooling };
    const tensors = new Map(storeWeights(buffer, p.named));
    const vectors = (config: ModelConfig): number[] => {
      const memory = allocateEncoders(module, config, tensors, "golden", { shared: true });
      const own = new SentenceEncoder(module, config, memory).encode(sentences, {
        normalize: false,
      });
      return own.flatMap((vector) => [...vector]);
    };
    expect(worst(vectors(model), floats(buffer, y)).error).toBeLessThan(2e-6);
    const same = pooling === "avg_first_last" && numLayers === 1; // the first layer is the last
    const avg = vectors({ ...model, pooling: "avg" });
    if (!same) expect(worst(avg, floats(buffer, y)).error).toBeGreaterThan(1e-2);
  });
});

describe("the step's objectives", () => {
  it.each([
    { symmetric: true },
    { similarity: "dot", temperature: 1 },
    { symmetric: true, similarity: "dot", temperature: 1 },
  ] as const)(
    "%o: ten small steps of plain descent along the gradient lower the loss",
    (changes) => {
      const { plan, buffer, step } = start("node", "avg", {
        ...changes,
        dropout: false,
        maxGradientNorm: 0.1,
      });
      const [a, b] = golden.curve.batches as [number[][], number[][]];
      const pairs = [...a.slice(0, 4), ...b.slice(0, 4)];
      const losses = Array.from({ length: 10 }, (_, i) => {
        step(pairs, { rows: 4, step: i + 1, learningRate: 1e-4 });
        return readLoss(buffer, plan).loss;
      });
      expect(losses.at(-1)!).toBeLessThan(losses[0]!);
    },
  );
});

describe("a batch in chunks", () => {
  it.each([
    [1, "cls"],
    [3, "cls"],
    [5, "cls"],
    [3, "avg_top2"],
  ] as const)(
    "of %d sentences, pooling %s, has the gradients of the whole batch, dropout included, to 1e-5",
    (chunkSize, pooling) => {
      const rows = golden.sentences.length;
      const ids = [...golden.sentences, ...golden.sentences];
      const found = [{ chunkSize }, {}].map((changes) => {
        const { plan, buffer, step } = start("node", pooling, changes);
        step(ids, { rows, step: 1, learningRate: 0 });
        const { loss, norm } = readLoss(buffer, plan);
        const named = plan.model.gradients.named.map(
          (tensor) => [tensor.name, floats(buffer, tensor).slice()] as const,
        );
        return { loss, norm, named };
      });
      const [chunked, whole] = found as [(typeof found)[0], (typeof found)[0]];
      expect(chunked.loss).toBeCloseTo(whole.loss, 6);
      expect(chunked.norm / whole.norm).toBeCloseTo(1, 5);
      chunked.named.forEach(([name, values], i) => {
        const want = whole.named[i]![1];
        const scale = Math.max(1e-2, ...want.map(Math.abs));
        expect(worst(values, want).error / scale, name).toBeLessThan(1e-5);
      });
    },
  );
});

describe("fixed dropout", () => {
  it("gives a sentence and its positive the same vector, to the bit, and dropout otherwise another", () => {
    const sentences = golden.curve.batches[0] as number[][];
    const rows = sentences.length;
    for (const fixedDropout of [true, false]) {
      const { plan, buffer, step } = start("node", "cls", { batchSize: rows, fixedDropout });
      step([...sentences, ...sentences], { rows, step: 1, learningRate: 0 });
      const vectors = floats(buffer, plan.vectors);
      const [anchors, positives] = [
        vectors.slice(0, vectors.length / 2),
        vectors.slice(vectors.length / 2),
      ];
      expect(worst(anchors, positives).error === 0).toBe(fixedDropout);
      // Dropout it is: without it the first sentence has another vector.
      const off = start("node", "cls", { batchSize: rows, dropout: false });
      off.step([...sentences, ...sentences], { rows, step: 1, learningRate: 0 });
      expect(worst(floats(off.buffer, off.plan.vectors), anchors).error).toBeGreaterThan(1e-3);
    }
  });
});

describe("the average of the weights", () => {
  it("moves every sixteenth step, by 9 / (9 + moves) at first", () => {
    const { plan, buffer, step } = start("node", "avg", { averageDecay: 0.999 });
    const { weights, average } = plan.model;
    const values = (set: ParameterSet): Float32Array => floats(buffer, set.named[5]!).slice();
    const sentences = golden.curve.batches[0] as number[][];
    const want = values(average!); // zeros
    for (let n = 1; n <= 48; n++) {
      step([...sentences, ...sentences], {
        rows: sentences.length,
        step: n,
        learningRate: 1e-3,
      });
      if (n % 16 > 0) continue;
      const now = values(weights);
      want.forEach((value, i) => (want[i] = value + ((now[i]! - value) * 9) / (9 + n / 16)));
      expect(worst(values(average!), want).error).toBeLessThan(1e-6);
    }
  });
});

describe("learning rates by layer", () => {
  const learningRate = 1e-4;

  it("fall from layer to layer, are 0 where parameters are frozen, and frozen ones are out of the norm", () => {
    const { plan, buffer, step, settle } = start("node", "cls", {
      layerRate: 0.5,
      freezeLayers: 1,
      weightDecay: 0,
    });
    const pairs = golden.curve.batches[0];
    step([...pairs, ...pairs], { rows: pairs.length, step: 1, learningRate });
    settle(1);
    const scales = { embeddings: 0.5 ** encoder.numLayers, "encoder.layer.0": 0, pooler: 1 };
    let squares = 0;
    plan.model.weights.named.forEach(({ name, ptr, shape }, i) => {
      const last = encoder.numLayers - 1;
      const [, scale] = Object.entries(scales).find(([prefix]) => name.startsWith(prefix)) ?? [
        "",
        0.5 ** (last - Number(/layer\.(\d+)/u.exec(name)![1])),
      ];
      const moved = worst(new Float32Array(buffer, ptr, size(shape)), initial.get(name)!).error;
      // The first step of Adam moves whatever has a gradient by the rate; that of the keys' biases is rounding.
      if (!name.endsWith("key.bias")) expect(moved / learningRate, name).toBeCloseTo(scale, 2);
      const gradient = floats(buffer, plan.model.gradients.named[i]!);
      if (scale > 0) squares += Math.hypot(...gradient) ** 2;
      else expect(Math.hypot(...gradient), name).toBe(0);
    });
    expect(readLoss(buffer, plan).norm).toBeCloseTo(Math.sqrt(squares), 5);
  });

  it("leave a frozen table as it is, and out of the norm", () => {
    const { plan, buffer, step, settle } = start("node", "avg", { freezeEmbeddings: true });
    const pairs = golden.curve.batches[0];
    step([...pairs, ...pairs], { rows: pairs.length, step: 1, learningRate });
    settle(1);
    const { weights, gradients: g } = plan.model;
    let squares = 0;
    weights.named.forEach((tensor, i) => {
      const moved = worst(floats(buffer, tensor), initial.get(tensor.name)!).error;
      expect(moved > 0, tensor.name).toBe(tensor.name.startsWith("encoder"));
      if (tensor.name.startsWith("encoder")) {
        squares += Math.hypot(...floats(buffer, g.named[i]!)) ** 2;
      }
    });
    expect(readLoss(buffer, plan).norm).toBeCloseTo(Math.sqrt(squares), 5);
  });
});
