import { readFileSync } from "node:fs";
import binaryen from "binaryen";
import { describe, expect, it } from "vitest";
import { ARENA_BASE } from "../../src/runtime/arena.ts";
import { compiled, INFERENCE_TARGETS, Machine, once, type Target, TARGETS } from "./harness.ts";

/** Name and number of parameters of every method, in the order of the alphabet. */
type Arities = readonly (readonly [string, number])[];

/** The methods that the file of an interface declares, inherited ones not included. */
function declared(name: "Kernels" | "InferenceKernels"): Arities {
  const file = name === "Kernels" ? "kernels" : "inference-kernels";
  const source = readFileSync(`src/runtime/${file}.ts`, "utf8");
  const [, body] = new RegExp(`export interface ${name}\\b[^{]*\\{\\n([^}]*)\\}`).exec(source)!;
  const methods = body!.matchAll(/^ {2}(\w+)\(([^)]*)\): \w+;$/gm);
  return sorted([...methods].map(([, method, list]) => [method!, list!.split(":").length - 1]));
}

function exported(target: Target): Arities {
  const exports = new Machine(target).k as unknown as Record<string, (...args: never[]) => void>;
  return sorted(Object.entries(exports).map(([name, kernel]) => [name, kernel.length]));
}

const sorted = (arities: Arities): Arities => arities.toSorted(([a], [b]) => (a < b ? -1 : 1));

/** The text of each binary, disassembled once. */
const text = Object.fromEntries(
  INFERENCE_TARGETS.map((target) => [
    target,
    once(() => {
      const module = binaryen.readBinary(new Uint8Array(readFileSync(`build/${target}.wasm`)));
      try {
        return module.emitText();
      } finally {
        module.dispose();
      }
    }),
  ]),
) as Record<Target, () => string>;

describe("the interface Kernels", () => {
  it.each(TARGETS)("has the names and arities of what %s exports", (target) => {
    const all = sorted([...declared("Kernels"), ...declared("InferenceKernels")]);
    expect(exported(target)).toEqual(all);
    expect(all.length).toBeGreaterThan(30);
  });

  it("has in InferenceKernels the names and arities of what edge exports", () => {
    expect(exported("edge")).toEqual(declared("InferenceKernels"));
  });
});

describe.each(INFERENCE_TARGETS)("%s.wasm", (target) => {
  it("imports its memory and nothing else, but for the abort of check", () => {
    const imports = WebAssembly.Module.imports(compiled(target)).map(
      ({ module, name, kind }) => `${module}.${name} ${kind}`,
    );
    const abort = target === "check" ? ["env.abort function"] : [];
    expect(imports.toSorted()).toEqual([...abort, "env.memory memory"]);
  });

  it("shares its memory only in node, and declares its limits", () => {
    const [, limits] = /\(import "env" "memory" \(memory \S+ ([^)]*)\)\)/.exec(text[target]())!;
    expect(limits).toBe(target === "node" ? "1 65536 shared" : "1");
  });

  it("never grows its memory, and calls no function by reference", () => {
    expect(text[target]()).not.toMatch(/memory\.grow|call_indirect|call_ref/);
  });

  it("uses exactly the features of its target", () => {
    const wat = text[target]();
    expect(/\.atomic\.|memory\.atomic/.test(wat), "atomics").toBe(target === "node");
    const relaxed = target === "node" || target === "edge";
    expect(/\.relaxed_/.test(wat), "relaxed SIMD").toBe(relaxed);
    expect(wat).toMatch(/f32x4\.mul/);
  });

  it("keeps its static data below the arena of the host", () => {
    expect(new Machine(target).k.heapBase() >>> 0).toBeLessThanOrEqual(ARENA_BASE);
  });
});

describe("edge.wasm", () => {
  it("has at most 64 KB", () => {
    expect(readFileSync("build/edge.wasm").length).toBeLessThanOrEqual(65536);
  });
});

describe("check.wasm", () => {
  const { k } = new Machine("check");
  const at = ARENA_BASE;

  it.each([
    ["layerNormForward", (): void => k.layerNormForward(at, 0, 0, at, at, at, 1, 6, 1), "cols"],
    ["geluForward", (): void => k.geluForward(at, at, 6, 0), "count"],
    ["dropoutForward", (): void => k.dropoutForward(at, at, 0, 0, 1, 6, 0, 0, 0, 0, at), "cols"],
    ["embeddingForward", (): void => k.embeddingForward(at, at, at, at, 0, 0, 1, 6), "hidden"],
    ["poolingForward", (): void => k.poolingForward(at, at, at, 1, 6, 0), "hidden"],
    ["gradientNorm", (): void => k.gradientNorm(at, at, 6, 0, 0, 0, 4, at), "count"],
    ["packInt8", (): void => k.packInt8(at, at, at, at, 4, 6), "inputs and outputs"],
    ["packInt4", (): void => k.packInt4(at, at, at, at, 6, 4), "inputs and outputs"],
    ["quantizeActivations", (): void => k.quantizeActivations(at, at, 1, 6), "cols"],
    ["innerProducts", (): void => k.innerProducts(at, at, at, 1, 6), "cols"],
  ] as const)("says which precondition of %s is broken", (_, call, subject) => {
    expect(call).toThrow(new RegExp(`^internal: ${subject} must be (a multiple|multiples) of 4`));
  });
});
