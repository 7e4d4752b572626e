import { FormatError } from "../errors.ts";
import { copyFloat32, type SafetensorsTensor, toFloat32 } from "../files/safetensors.ts";
import { size, type Tensor } from "../runtime/arena.ts";
import type { ModelConfig } from "./config.ts";

/** What Hugging Face, sentence-transformers and SimCSE put before the names of a BertModel. */
const PREFIX = /^(0\.auto_model\.|auto_model\.)?(bert\.|roberta\.|distilbert\.)?/;

/** Names of other times and members of the family, and BertModel's. */
const RENAMED: readonly (readonly [RegExp, string])[] = [
  [/LayerNorm\.gamma$/, "LayerNorm.weight"], // of BERT's first checkpoints, which came from TensorFlow
  [/LayerNorm\.beta$/, "LayerNorm.bias"],
  [/^mlp\.dense\./, "pooler.dense."], // SimCSE's head
  [/^embedding\.weight$/, "embeddings"], // the whole of sentence-transformers' static model
  [/^transformer\.layer\./, "encoder.layer."], // and so on: DistilBERT
  [/\.attention\.q_lin\./, ".attention.self.query."],
  [/\.attention\.k_lin\./, ".attention.self.key."],
  [/\.attention\.v_lin\./, ".attention.self.value."],
  [/\.attention\.out_lin\./, ".attention.output.dense."],
  [/\.sa_layer_norm\./, ".attention.output.LayerNorm."],
  [/\.ffn\.lin1\./, ".intermediate.dense."],
  [/\.ffn\.lin2\./, ".output.dense."],
  [/\.output_layer_norm\./, ".output.LayerNorm."],
  [/^(lm_head\.dense|vocab_transform)\./, "cls.predictions.transform.dense."], // heads of RoBERTa and DistilBERT
  [/^(lm_head\.layer_norm|vocab_layer_norm)\./, "cls.predictions.transform.LayerNorm."],
  [/^(lm_head|vocab_projector)\.bias$/, "cls.predictions.bias"],
];

const POSITIONS = "embeddings.position_embeddings.weight";
/** Rows before the position of the first token: one past the id of padding, which is 1. */
const ROBERTA_UNUSED = 2;
const TYPES = "embeddings.token_type_embeddings.weight";

/** The name in a BertModel of a tensor that some member of the family wrote. */
function bertName(name: string): string {
  return RENAMED.reduce(
    (renamed, [from, to]) => renamed.replace(from, to),
    name.replace(PREFIX, ""),
  );
}

/**
 * Copies the tensors of a model file to their planned addresses. Names are translated to those of a BertModel, and tensors
 * that the plan does not name are ignored: a folder may hold heads we do not use. Of RoBERTa's table of positions the last
 * rows are taken, since it begins with rows that no text reaches; DistilBERT, which has no token types, gets zeros. A static
 * model may be a table alone: then a token's row is its id, and weighs 1.
 * @throws FormatError naming the tensor that is absent, twice there or has another shape, and the file
 */
export function loadWeights(
  buffer: ArrayBufferLike,
  named: readonly Tensor[],
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  file: string,
): void {
  const known = new Map<string, SafetensorsTensor>();
  const wanted = new Set(named.map(({ name }) => name));
  for (const [name, tensor] of tensors) {
    const bert = bertName(name);
    if (known.has(bert) && wanted.has(bert)) {
      throw new FormatError(`${bert}: ${file} has it twice, once as ${name}; keep one of them`);
    }
    known.set(bert, tensor);
  }
  const distil = [...tensors.keys()].some((name) => name.endsWith(".attention.q_lin.weight"));
  for (const { name, ptr, shape, dtype } of named) {
    const stored = known.get(name);
    if (name === TYPES && distil && !stored) {
      new Float32Array(buffer, ptr, size(shape)).fill(0);
      continue;
    }
    if (!stored && name === "mapping") {
      new Int32Array(buffer, ptr, shape[0]).forEach((_, id, rows) => (rows[id] = id));
      checkRows(new Int32Array(buffer, ptr, shape[0]), named, name, file);
      continue;
    }
    if (!stored && name === "weights") {
      new Float32Array(buffer, ptr, shape[0]).fill(1);
      continue;
    }
    if (!stored) {
      const remedy = known.has(name.replace(/codes$/, "packed"))
        ? "; an earlier version quantized it: quantize the f32 model again"
        : "";
      throw new FormatError(
        `${name}: expected [${shape.join(", ")}], absent from ${file}${remedy}`,
      );
    }
    const [rows, cols] = stored.shape;
    const longer = name === POSITIONS && cols === shape[1] && rows === shape[0]! + ROBERTA_UNUSED;
    if (!longer && stored.shape.join() !== shape.join()) {
      throw new FormatError(
        `${name}: expected [${shape.join(", ")}], found [${stored.shape.join(", ")}] in ${file}`,
      );
    }
    if (dtype === "F32") {
      const loaded = new Float32Array(buffer, ptr, size(shape));
      copyFloat32(stored, loaded, longer ? ROBERTA_UNUSED * cols! : 0, `${name} in ${file}`);
      checkFinite(loaded, name, file);
    } else if (stored.dtype === dtype) {
      const bytes = new Uint8Array(buffer, ptr, size(shape) * (dtype === "I8" ? 1 : 4));
      if (stored.copyTo) stored.copyTo(bytes, 0);
      else bytes.set(stored.data);
      if (dtype === "I32") checkRows(new Int32Array(buffer, ptr, size(shape)), named, name, file);
    } else {
      throw new FormatError(`${name}: expected ${dtype}, found ${stored.dtype} in ${file}`);
    }
  }
}

/** Whether a model file has a tensor, under whatever name a member of the family gives it. */
export function hasWeight(tensors: ReadonlyMap<string, SafetensorsTensor>, name: string): boolean {
  return [...tensors.keys()].some((stored) => bertName(stored) === name);
}

/**
 * One NaN among the weights would be in every vector.
 * @throws FormatError naming the tensor, the place, what is there and the file
 */
export function checkFinite(values: Float32Array, name: string, file: string): void {
  let sum = 0; // in double precision, where no sum of floats overflows
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  if (Number.isFinite(sum)) return;
  const at = values.findIndex((x) => !Number.isFinite(x));
  throw new FormatError(`${name}[${at}]: expected a number, found ${values[at]} in ${file}`);
}

/** No kernel checks whether a token of a static model has a row of the table. */
function checkRows(rows: Int32Array, named: readonly Tensor[], name: string, file: string): void {
  const count = named.find((tensor) => tensor.name === "embeddings")!.shape[0]!;
  const alien = rows.findIndex((row) => row < 0 || row >= count);
  if (alien < 0) return;
  throw new FormatError(
    `${name}[${alien}]: expected one of the ${count} rows of embeddings, found ${rows[alien]} in ${file}`,
  );
}

/**
 * The tensors of a static model under our names, which are model2vec's: `embeddings` [rows, hidden], and for each token a
 * row in `mapping` and a factor in `weights`; without them every token has the row of its id, as it is.
 * @throws FormatError for tensors of shapes that do not fit, and a table that is absent or smaller than the vocabulary
 */
export function staticTensors(
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  vocabSize: number,
  file: string,
): { tensors: Map<string, SafetensorsTensor>; rows: number; hidden: number } {
  const table = tensors.get("embeddings") ?? tensors.get("embedding.weight");
  const [rows, hidden] = table?.shape ?? [];
  if (!table || table.shape.length !== 2 || rows === undefined || hidden === undefined) {
    throw new FormatError(`embeddings: expected [rows, hidden], absent from ${file}`);
  }
  const mapping = tensors.get("mapping");
  const weights = tensors.get("weights");
  if (mapping && mapping.dtype !== "I32" && mapping.dtype !== "I64") {
    throw new FormatError(`mapping: expected I32 or I64, found ${mapping.dtype} in ${file}`);
  }
  const data = mapping?.data.slice().buffer;
  const stored =
    data && (mapping?.dtype === "I64" ? new BigInt64Array(data) : new Int32Array(data));
  const list = (values: Int32Array | Float32Array, dtype: "I32" | "F32"): SafetensorsTensor => ({
    dtype,
    shape: [vocabSize],
    data: new Uint8Array(values.buffer as ArrayBuffer),
  });
  // More entries than tokens are of no use.
  const entries = mapping?.shape[0] ?? weights?.shape[0] ?? rows;
  if (entries < vocabSize || (weights && weights.shape[0] !== entries)) {
    throw new FormatError(
      `${file}: expected an entry for each of ${vocabSize} tokens, found ${entries} rows in ` +
        `${mapping ? "mapping" : "the table"} and ${weights?.shape[0] ?? "no"} weights`,
    );
  }
  const rowOf = Int32Array.from({ length: vocabSize }, (_, i) => Number(stored?.[i] ?? i));
  const factors = weights
    ? toFloat32(weights, `weights in ${file}`).slice(0, vocabSize)
    : new Float32Array(vocabSize).fill(1);
  return {
    tensors: new Map([
      ["embeddings", table],
      ["mapping", list(rowOf, "I32")],
      ["weights", list(factors, "F32")],
    ]),
    rows,
    hidden,
  };
}

/** The one tensor of a static model that is a table alone, to sentence-transformers. */
export const TABLE_ALONE = "embedding.weight";

/**
 * A static model as a table alone, a row for each token with the token's weight in it, as other libraries want it; as it is
 * if some token counts for nothing, which a table cannot say.
 */
export function foldStatic(
  config: ModelConfig,
  tensors: ReadonlyMap<string, SafetensorsTensor>,
): { config: ModelConfig; tensors: ReadonlyMap<string, SafetensorsTensor> } {
  const [table, weights, mapping] = ["embeddings", "weights", "mapping"].map((name) =>
    tensors.get(name),
  );
  if (!table || !weights || !mapping || config.table?.ignoredId !== undefined) {
    return { config, tensors };
  }
  const { vocabSize, hiddenSize: hidden } = config.encoder;
  const [vectors, factors] = [toFloat32(table), toFloat32(weights)];
  const folded = new Float32Array(vocabSize * hidden);
  new Int32Array(mapping.data.slice().buffer).forEach((row, id) => {
    for (let j = 0; j < hidden; j++)
      folded[id * hidden + j] = factors[id]! * vectors[row * hidden + j]!;
  });
  const data = new Uint8Array(folded.buffer);
  const modules = [...tensors].filter(([name]) => name.startsWith("modules."));
  const alone: SafetensorsTensor = { dtype: "F32", shape: [vocabSize, hidden], data };
  return {
    config: { ...config, table: { rows: vocabSize } },
    tensors: new Map([[TABLE_ALONE, alone], ...modules]),
  };
}

/** Copies planned tensors out of memory, for a model file. */
export function storeWeights(
  buffer: ArrayBufferLike,
  named: readonly Tensor[],
): [string, SafetensorsTensor][] {
  return named.map(({ name, ptr, shape, dtype }) => {
    const bytes = size(shape) * (dtype === "I8" ? 1 : 4);
    return [name, { dtype, shape: [...shape], data: new Uint8Array(buffer, ptr, bytes).slice() }];
  });
}
