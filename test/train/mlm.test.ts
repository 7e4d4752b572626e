import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseSafetensors, toFloat32 } from "../../src/files/safetensors.ts";
import { parseConfig } from "../../src/model/config.ts";
import { MASKED_AT_ONCE } from "../../src/model/mlm-head.ts";
import { MLM_HEAD } from "../../src/model/parameters.ts";
import { hasWeight } from "../../src/model/weights.ts";
import { FillMask } from "../../src/model/fill-mask.ts";
import { size, type Tensor } from "../../src/runtime/arena.ts";
import { maskBatch, type MaskedBatch } from "../../src/train/masking.ts";
import { RandomStream } from "../../src/train/random.ts";
import {
  planTraining,
  readLoss,
  type StepLoss,
  type StepOptions,
  trainStep,
  writeTrainingBatch,
} from "../../src/train/step.ts";
import { uniform } from "../kernels/harness.ts";
import { killOnceWritten } from "./kill.ts";
import { oneRank } from "./rank.ts";

/** The tiny encoder of the golden values, with a head of our own on top. */
const golden = JSON.parse(readFileSync("test/golden/encoder.json", "utf8"));
const { encoder } = parseConfig(golden.config, "test/golden/encoder.json");
const { tensors } = parseSafetensors(readFileSync("test/golden/encoder.safetensors"), "golden");

const ROWS = 6;
const sentences = golden.sentences.slice(0, ROWS) as number[][];
const twice = [...sentences, ...sentences].map((ids) => Int32Array.from(ids));
const MASKING = { rate: 0.4, maskId: 3, vocabSize: encoder.vocabSize, special: new Set([1, 2]) };
const masked = maskBatch(twice, MASKING, 5, 1);

const floats = (buffer: ArrayBufferLike, { ptr, shape }: Tensor): Float32Array =>
  new Float32Array(buffer, ptr, size(shape));

function start(changes: Partial<StepOptions>, target = "node") {
  const options: StepOptions = {
    encoder,
    pooling: "cls",
    batchSize: ROWS,
    columns: 2,
    maxLength: 24,
    temperature: 0.2,
    hardNegativeWeight: 0,
    dropout: true,
    seed: 7,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weightDecay: 0,
    maxGradientNorm: 1,
    ...changes,
  };
  const plan = planTraining(options, 1);
  const { k, buffer } = oneRank(target, plan.arena.pages);
  plan.model.weights.named.forEach((tensor, i) => {
    const stored = tensors.get(tensor.name);
    const random = uniform(i, size(tensor.shape), -0.3, 0.3);
    if (tensor.name.endsWith("LayerNorm.weight")) random.forEach((x, j) => (random[j] = 1 + x));
    floats(buffer, tensor).set(stored ? toFloat32(stored) : random);
  });
  /** The same step again and again, as the learning rate is 0. */
  const step = (copies: MaskedBatch = masked, sequences = twice): StepLoss => {
    const compared = options.objective === "mlm" ? [] : sequences;
    const { touched } = writeTrainingBatch(buffer, plan, options, compared, copies);
    const ids = new Int32Array(buffer, plan.objective.ids.ptr, compared.length);
    ids.set(compared.map((_, i) => i % ROWS));
    trainStep(k, buffer, plan, options, { rows: ROWS, touched, step: 1, learningRate: 0 });
    return readLoss(buffer, plan);
  };
  const gradients = (): Map<string, Float32Array> => {
    const named = plan.model.gradients.named;
    return new Map(named.map((tensor) => [tensor.name, floats(buffer, tensor).slice()]));
  };
  return { plan, buffer, step, gradients };
}

/** Largest difference, as a share of the largest element, which is at least `floor`. */
function expectSame(found: Map<string, Float32Array>, want: Map<string, Float32Array>): void {
  for (const [name, values] of want) {
    const scale = values.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-2);
    const other = found.get(name)!;
    const error = values.reduce((most, x, i) => Math.max(most, Math.abs(x - other[i]!)), 0);
    expect(error / scale, name).toBeLessThan(1e-5);
  }
}

const BOTH = { mlmWeight: 0.7 };
const ALONE = { mlmWeight: 1, objective: "mlm" } as const;

describe.each(["node", "portable"])("%s: the gradient of a whole step", (target) => {
  it.each([
    { ...BOTH, pooling: "cls" },
    { ...BOTH, pooling: "avg", chunkSize: 5 },
    { ...BOTH, pooling: "avg_top2", encoder: { ...encoder, numLayers: 1 } },
    { ...BOTH, pooling: "avg_top2", encoder: { ...encoder, numLayers: 3 } },
    { ...BOTH, pooling: "avg_first_last", chunkSize: 5, encoder: { ...encoder, numLayers: 3 } },
    { ...BOTH, pooling: "cls_before_pooler", encoder: { ...encoder, tanhGelu: true } },
    ALONE,
  ] as const)(
    "is, for every parameter, the slope of the loss along it by central differences: %j",
    (changes) => {
      const { plan, buffer, step, gradients } = start(changes, target);
      step();
      const found = gradients();
      let compared = 0;
      for (const tensor of plan.model.weights.named) {
        const gradient = found.get(tensor.name)!;
        const norm = Math.hypot(...gradient);
        // Nothing depends on the keys' bias; a gradient so small is lost in the rounding of the loss.
        if (norm < 2e-3) continue;
        compared++;
        const values = floats(buffer, tensor);
        const before = values.slice();
        const h = Math.min(2e-3 / norm, 0.02);
        const [above, below] = [h, -h].map((by) => {
          values.set(before.map((x, i) => x + (by * gradient[i]!) / norm));
          return step().loss;
        }) as [number, number];
        values.set(before);
        expect((above - below) / (2 * h) / norm, tensor.name).toBeCloseTo(1, 1.7);
      }
      const parts = plan.model.weights.named.filter(({ name }) => name.startsWith(MLM_HEAD));
      expect(parts.length).toBe(5);
      expect(compared).toBeGreaterThan(plan.model.weights.named.length - 6);
    },
  );
});

describe("guessing masked tokens", () => {
  it("leaves the sentences that are compared alone: their loss has the bits it has without", () => {
    const without = start({}).step();
    const both = start(BOTH).step();
    expect(both.contrastive).toBe(without.loss);
    expect(both.loss).toBe(both.contrastive! + 0.7 * both.mlm!);
    expect(without.mlm).toBeUndefined();
  });

  it.each([1, 4, 5])("in chunks of %d sentences has the gradients of the whole batch", (n) => {
    for (const changes of [BOTH, ALONE]) {
      const [whole, cut] = [start(changes), start({ ...changes, chunkSize: n })];
      const [want, found] = [whole.step(), cut.step()];
      expect(found.mlm! / want.mlm!).toBeCloseTo(1, 6);
      expect(found.accuracy).toBeCloseTo(want.accuracy!, 6);
      expect(found.norm / want.norm).toBeCloseTo(1, 5);
      expectSame(cut.gradients(), whole.gradients());
    }
  });

  it("takes more tokens than fit at a time, to the gradients of chunks in which they do", () => {
    const long = Array.from({ length: 2 * 20 }, (_, i) =>
      Int32Array.from({ length: 24 }, (__, j) => 4 + ((i * 7 + j * 5) % 36)),
    );
    const copies = maskBatch(long, { ...MASKING, rate: 0.5 }, 1, 1);
    expect(copies.places.length).toBeGreaterThan(MASKED_AT_ONCE);
    const [whole, cut] = [{}, { chunkSize: 8 }].map((changes) =>
      start({ ...ALONE, batchSize: 20, ...changes }),
    ) as [ReturnType<typeof start>, ReturnType<typeof start>];
    const [want, found] = [whole.step(copies), cut.step(copies)];
    expect(found.mlm! / want.mlm!).toBeCloseTo(1, 6);
    expectSame(cut.gradients(), whole.gradients());
  });

  it("of nothing adds nothing", () => {
    const nothing = maskBatch(twice, { ...MASKING, rate: 0 }, 5, 1);
    const without = start({});
    const both = start(BOTH);
    const { loss } = without.step();
    expect(both.step(nothing)).toMatchObject({ loss, mlm: 0, accuracy: 0 });
    expectSame(both.gradients(), without.gradients());
    const alone = start(ALONE);
    alone.step();
    expect(alone.step(nothing)).toMatchObject({ loss: 0, norm: 0 });
  });

  it("does not keep the memory of sentences that nobody compares", () => {
    const bytes = (changes: Partial<StepOptions>): number => start(changes).plan.arena.top;
    const same = { batchSize: 64, pooling: "avg" } as const;
    expect(bytes({ ...same, ...ALONE })).toBeLessThan(bytes({ ...same, ...BOTH }));
    // The activations of the two passes lie in the same place.
    const more = 4 * size([64 * 2 * 24]) * 2;
    expect(bytes({ ...same, ...BOTH }) - bytes(same)).toBeLessThan(bytes(same) / 4 + more);
  });
});

describe("filling gaps", () => {
  it("finds the words of the highest logits, as a step that is asked to guess them says", () => {
    const { plan, buffer, step } = start({ ...ALONE, dropout: false });
    const head = plan.model.weights.named.map((tensor) => {
      const data = new Uint8Array(floats(buffer, tensor).slice().buffer);
      return [tensor.name, { dtype: "F32" as const, shape: [...tensor.shape], data }] as const;
    });
    const module = new WebAssembly.Module(readFileSync("build/node.wasm"));
    const filler = (banned: readonly number[]): FillMask =>
      new FillMask(module, encoder, new Map(head), "test", 24, new Set(banned));
    const places = sentences.map((ids) => ids.flatMap((_, i) => (i % 3 === 1 ? [i] : [])));
    const gaps = sentences.map((ids, s) => {
      return Int32Array.from(ids, (id, i) => (places[s]!.includes(i) ? MASKING.maskId : id));
    });
    const free = filler([]);
    const words = gaps.map((ids, s) => free.fill(ids, places[s]!));
    let first = 0;
    const all = gaps.flatMap((ids, s) => {
      const own = places[s]!.map((place) => first + place);
      first += ids.length;
      return own;
    });
    const batch = { sequences: gaps, places: Int32Array.from(all) };
    expect(step({ ...batch, labels: Int32Array.from(words.flat()) }).accuracy).toBe(1);
    const others = Int32Array.from(words.flat(), (word) => (word + 1) % encoder.vocabSize);
    expect(step({ ...batch, labels: others }).accuracy).toBe(0);
    const banned = filler(words.flat()).fill(gaps[0]!, places[0]!);
    expect(banned.some((word) => words.flat().includes(word))).toBe(false);
    expect(free.fill(gaps[0]!, [])).toEqual([]);
  });
});

describe("simcse train", () => {
  const folder = mkdtempSync(join(tmpdir(), "simcse-mlm-"));
  const path = (...names: string[]): string => join(folder, ...names);
  const run = (args: readonly string[]) =>
    spawnSync(process.execPath, ["src/cli/main.ts", ...args], { encoding: "utf8" });
  const succeeds = (args: readonly string[]): string => {
    const { status, stderr } = run(args);
    if (status !== 0) throw new Error(stderr);
    return stderr;
  };
  const training = (name: string, ...more: string[]): string[] =>
    // prettier-ignore
    ["train", "--model", path("model"), "--corpus", path("text.txt"), "--output", path(name), "--steps", "60", "--batch-size", "16",
      "--learning-rate", "3e-3", "--checkpoint-every", "2", ...more];
  const weights = (name: string): Buffer => readFileSync(path(name, "model.safetensors"));
  const losses = (name: string): { mlm: number; loss: number }[] =>
    readFileSync(path(name, "metrics.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { mlm: number; loss: number });

  beforeAll(() => {
    // Every word says which one follows, so that there is something to guess.
    const words = "a file opens then closes quickly while server client returns value error".split(
      " ",
    );
    const random = new RandomStream(2, 9);
    const sentence = (): string => {
      const first = random.below(words.length);
      const length = 4 + random.below(8);
      return Array.from({ length }, (_, i) => words[(first + i) % words.length]).join(" ");
    };
    writeFileSync(path("text.txt"), Array.from({ length: 300 }, sentence).join("\n"));
    succeeds(["vocab", "--corpus", path("text.txt"), "--output", path("t.json"), "--size", "120"]);
    // prettier-ignore
    succeeds(["init", "--tokenizer", path("t.json"), "--output", path("model"), "--hidden", "32", "--heads", "4", "--intermediate", "64", "--pooling", "cls"]);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it.each([
    ["--mlm-weight", "0.1"],
    ["--objective", "mlm"],
  ])("%s %s, killed and resumed by another team, ends in the same bits", async (...options) => {
    const [whole, killed] = [`whole${options[0]}`, `killed${options[0]}`];
    expect(succeeds(training(whole, ...options, "--threads", "1"))).toContain(
      "has no head of a masked language model; it begins at random",
    );
    await killOnceWritten(
      training(killed, ...options, "--threads", "2"),
      path(killed, "checkpoint.safetensors"),
    );
    expect(succeeds(training(killed, ...options, "--threads", "3", "--resume"))).toContain(
      "resumed after step",
    );
    expect(weights(killed).equals(weights(whole))).toBe(true);
  });

  it("learns to guess, and goes on from the head that is in its folder", () => {
    const first = losses("whole--objective");
    expect(first[0]!.mlm).toBeGreaterThan(3);
    expect(first.at(-1)!.mlm).toBeLessThan(0.8 * first[0]!.mlm);
    expect(first.map(({ loss, mlm }) => loss === mlm)).not.toContain(false);
    const { tensors: stored } = parseSafetensors(weights("whole--objective"), "whole");
    expect(stored.get(`${MLM_HEAD}transform.dense.weight`)?.shape).toEqual([32, 32]);
    const more = ["--model", path("whole--objective"), "--mlm-weight", "0.1", "--steps", "2"];
    expect(succeeds(training("more", ...more))).not.toContain("begins at random");
    expect(losses("more")[0]!.mlm).toBeLessThan(0.8 * first[0]!.mlm);
    expect(
      run(["encode", "--model", path("more"), "--output", path("v.npy"), path("text.txt")]).status,
    ).toBe(0);
  });

  it("--augment mlm:30 replaces words by the model's own guesses, if it has a head to guess with", () => {
    const one = ["--augment", "mlm:30", "--steps", "4"];
    succeeds(training("guesses", ...one, "--model", path("whole--objective")));
    expect(losses("guesses").length).toBe(4);
    const { status, stderr } = run(training("refused", ...one));
    expect(status).toBe(2);
    expect(stderr).toContain("expected a --model with the head of a masked language model");
  });

  it("says in a dry run what a masked language model adds, and that alone it takes less", () => {
    const rehearsed = (...more: string[]): { parameters: number; bytes: number } => {
      const { stdout } = run([...training("dry", ...more), "--dry-run"]);
      const [parameters, megabytes] = [/parameters +([\d,]+)/, /all of this +([\d.]+) MB/].map(
        (line) => Number(line.exec(stdout)![1]!.replaceAll(",", "")),
      ) as [number, number];
      return { parameters, bytes: 1e6 * megabytes };
    };
    const both = rehearsed("--mlm-weight", "0.1");
    const vocab = JSON.parse(readFileSync(path("model", "config.json"), "utf8")).vocab_size;
    expect(both.parameters - rehearsed().parameters).toBe(32 * 32 + 3 * 32 + vocab);
    expect(rehearsed("--objective", "mlm").bytes).toBeLessThan(both.bytes);
  });

  it.each([
    [["--objective", "mlm", "--mlm-weight", "1"], "expected no --mlm-weight"],
    [["--objective", "mlm", "--augment", "delete-one"], "expected no --augment"],
    [["--mlm-probability", "0.2"], "nothing is masked without --mlm-weight"],
  ])("refuses %j", (options, message) => {
    const { status, stderr } = run(training("refused", ...options));
    expect(status).toBe(2);
    expect(stderr).toContain(message);
  });
});

describe("the heads of the family", () => {
  it.each([
    "cls.predictions.transform.dense.weight",
    "lm_head.dense.weight",
    "vocab_transform.weight",
  ])("are one, under the name %s too", (name) => {
    const stored = new Map([
      [name, { dtype: "F32" as const, shape: [1], data: new Uint8Array(4) }],
    ]);
    expect(hasWeight(stored, `${MLM_HEAD}transform.dense.weight`)).toBe(true);
    expect(hasWeight(stored, `${MLM_HEAD}bias`)).toBe(false);
  });
});
