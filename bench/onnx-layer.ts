/**
 * A linear layer as an ONNX model of one node, for onnxruntime-web beside ours: y = x Wᵀ + b, with weights of f32, int8 (quantising
 * x as it comes, like ours) or int4 (groups of 32, products in int8).
 */
import type { Dtype } from "../src/model/config.ts";
import { installed, open } from "./onnxruntime.ts";

/** ONNX's numbers of element types. */
const FLOAT = 1;
const UINT8 = 2;
const INT8 = 3;

type Bytes = readonly number[] | Uint8Array;

/** The fields of a protocol buffer: numbers, and whatever has a length. */
function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
}
const number = (field: number, value: number): Bytes => [...varint(8 * field), ...varint(value)];
const message = (field: number, ...parts: readonly Bytes[]): Uint8Array => {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return joined([varint(8 * field + 2), varint(length), ...parts]);
};
const text = (field: number, value: string): Bytes =>
  message(field, new TextEncoder().encode(value));

function joined(parts: readonly Bytes[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

const constant = (name: string, type: number, shape: readonly number[], data: Bytes): Bytes =>
  message(5, ...shape.map((n) => number(1, n)), number(2, type), text(8, name), message(9, data));

const attribute = (name: string, value: number): Bytes =>
  message(5, text(1, name), number(3, value), number(20, 2));

/** A float tensor that comes in (11) or goes out (12). */
const declared = (field: number, name: string, shape: readonly number[]): Bytes => {
  const dimensions = message(2, ...shape.map((n) => message(1, number(1, n))));
  return message(field, text(1, name), message(2, message(1, number(1, FLOAT), dimensions)));
};

/** The bytes of the model; its weights are small and without meaning. */
function onnxLayer(dtype: Dtype, rows: number, inputs: number, outputs: number): Uint8Array {
  const floats = (count: number): Uint8Array =>
    new Uint8Array(Float32Array.from({ length: count }, (_, i) => ((i * 7919) % 512) / 1e4).buffer);
  const codes = (count: number): Uint8Array =>
    Uint8Array.from({ length: count }, (_, i) => (i * 7919) % 128);
  const bias = constant("b", FLOAT, [outputs], floats(outputs));
  const groups = Math.ceil(inputs / 32);
  const node = {
    f32: {
      type: "Gemm",
      inputs: ["x", "w", "b"],
      attributes: [attribute("transB", 1)],
      constants: [constant("w", FLOAT, [outputs, inputs], floats(outputs * inputs)), bias],
    },
    int8: {
      type: "DynamicQuantizeMatMul",
      inputs: ["x", "w", "s", "", "b"],
      attributes: [],
      constants: [
        constant("w", INT8, [inputs, outputs], codes(outputs * inputs)),
        constant("s", FLOAT, [outputs], floats(outputs)),
        bias,
      ],
    },
    int4: {
      type: "MatMulNBits",
      inputs: ["x", "w", "s"],
      attributes: Object.entries({
        K: inputs,
        N: outputs,
        bits: 4,
        block_size: 32,
        accuracy_level: 4,
      }).map(([name, value]) => attribute(name, value)),
      constants: [
        constant("w", UINT8, [outputs, groups, 16], codes(outputs * groups * 16)),
        constant("s", FLOAT, [outputs * groups], floats(outputs * groups)),
      ],
    },
  }[dtype];
  const domain = dtype === "f32" ? "" : "com.microsoft";
  const graph = message(
    7,
    message(
      1,
      ...node.inputs.map((name) => text(1, name)),
      text(2, "y"),
      text(4, node.type),
      ...node.attributes,
      text(7, domain),
    ),
    text(2, "layer"),
    ...node.constants,
    declared(11, "x", [rows, inputs]),
    declared(12, "y", [rows, outputs]),
  );
  const opsets = [
    message(8, text(1, ""), number(2, 17)),
    message(8, text(1, "com.microsoft"), number(2, 1)),
  ];
  return joined([number(1, 8), ...opsets, graph]);
}

/** A linear layer [rows, inputs] → [rows, outputs] on one thread, of floats to floats; undefined without onnxruntime-web. */
export async function openLayer(
  dtype: Dtype,
  rows: number,
  inputs: number,
  outputs: number,
): Promise<(() => Promise<void>) | undefined> {
  const module = installed();
  if (!module) return undefined;
  const { ort, session } = await open(module, onnxLayer(dtype, rows, inputs, outputs), 1);
  const values = Float32Array.from({ length: rows * inputs }, (_, i) => ((i * 31) % 101) / 101);
  const x = new ort.Tensor("float32", values, [rows, inputs]);
  return async () => {
    for (const tensor of Object.values(await session.run({ x }))) tensor.dispose();
  };
}
