/**
 * Files that lie: each breaks its format at one place, so that whoever reads it must refuse it. A pure function of the whole
 * files given; random places come of a seed.
 */
import { deflateRawSync, gzipSync } from "node:zlib";
import type { JsonLimits } from "../../src/files/json.ts";
import { serializeSafetensors, type SafetensorsTensor } from "../../src/files/safetensors.ts";

export interface Hostile {
  readonly what: string;
  readonly bytes: Uint8Array;
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const HUGE = 2 ** 53;

/** A generator of whole numbers below n. */
export function dice(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

/** A file cut off at each of these places. */
function* cuts(bytes: Uint8Array, places: Iterable<number>): Generator<Hostile> {
  for (const at of new Set(places)) {
    if (at < bytes.length) yield { what: `cut at byte ${at}`, bytes: bytes.subarray(0, at) };
  }
}

function withHeader(header: string, data: Uint8Array): Uint8Array {
  const json = text(header);
  const bytes = new Uint8Array(8 + json.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  bytes.set(data, 8 + json.length);
  return bytes;
}

interface Entry {
  dtype: unknown;
  shape: unknown;
  data_offsets: unknown;
}

/** safetensors that break the format, or hold weights that are none. */
export function* hostileSafetensors(file: Uint8Array, seed: number): Generator<Hostile> {
  const roll = dice(seed);
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  const json = new TextDecoder().decode(file.subarray(8, 8 + length));
  const data = file.subarray(8 + length);
  const header = JSON.parse(json) as Record<string, Entry>;
  const names = Object.keys(header).filter((name) => name !== "__metadata__");
  const ends = names.map((name) => 8 + length + (header[name]!.data_offsets as number[])[1]!);
  yield* cuts(file, [0, 1, 7, 8, 9, 7 + length, 8 + length]);
  yield* cuts(
    file,
    ends.flatMap((end) => [end - 1, ...(end < file.length ? [end, end + 1] : [])]),
  );
  yield* cuts(
    file,
    Array.from(json.matchAll(/[{}[\]:,"]/g), ({ index }) => 9 + index).filter(() => roll(8) === 0),
  );
  for (const claim of [0n, 1n, 2n ** 31n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n]) {
    const bytes = file.slice();
    new DataView(bytes.buffer).setBigUint64(0, claim, true);
    yield { what: `a header of ${claim} bytes`, bytes };
  }
  const changes: [string, (entry: Entry, begin: number, end: number) => object][] = [
    ["a hole before", (e, begin, end) => ({ ...e, data_offsets: [begin + 4, end + 4] })],
    ["an end before the beginning", (e, begin, end) => ({ ...e, data_offsets: [end, begin] })],
    ["too short a range", (e, begin, end) => ({ ...e, data_offsets: [begin, end - 1] })],
    ["a range of 2^53", (e, begin) => ({ ...e, data_offsets: [begin, HUGE] })],
    ["a range below 0", (e, begin, end) => ({ ...e, data_offsets: [-4, end - begin - 4] })],
    ["a range of strings", (e, begin, end) => ({ ...e, data_offsets: [`${begin}`, `${end}`] })],
    ["one offset", (e, begin) => ({ ...e, data_offsets: [begin] })],
    ["a dtype that is none", (e) => ({ ...e, dtype: "F31" })],
    ["the dtype __proto__", (e) => ({ ...e, dtype: "__proto__" })],
    ["a shape of 2^53", (e) => ({ ...e, shape: [HUGE, HUGE] })],
    ["a shape below 0", (e) => ({ ...e, shape: [-1, -4] })],
    ["a shape of fractions", (e) => ({ ...e, shape: [0.5, 2] })],
    ["a shape that is none", (e) => ({ ...e, shape: { length: 2 } })],
    ["a shape of a million ones", (e) => ({ ...e, shape: Array.from({ length: 1000 }, () => 3) })],
    ["no fields", () => ({})],
  ];
  for (const name of names) {
    const [begin, end] = header[name]!.data_offsets as [number, number];
    for (const [what, change] of changes) {
      const changed = { ...header, [name]: change(header[name]!, begin, end) };
      yield { what: `${name}: ${what}`, bytes: withHeader(JSON.stringify(changed), data) };
    }
    const twice = `${json.trimEnd().slice(0, -1)},${JSON.stringify(name)}:${JSON.stringify(header[name])}}`;
    yield { what: `${name}: twice`, bytes: withHeader(twice, data) };
    const renamed = json.replace(`${JSON.stringify(name)}:`, `"__proto__":`);
    yield { what: `${name}: named __proto__`, bytes: withHeader(renamed, data) };
    if (begin > 0) {
      const other = names.find((n) => (header[n]!.data_offsets as number[])[1] === begin)!;
      const overlap = { ...header, [name]: { ...header[other]! } };
      yield { what: `${name}: over ${other}`, bytes: withHeader(JSON.stringify(overlap), data) };
    }
    // Of codes any byte is a number.
    const noNumbers =
      header[name]!.dtype === "F32" ? [0x7fc00000, 0x7f800000, 0xff800000, 0x7f800001] : [];
    for (const bits of noNumbers) {
      const bytes = file.slice();
      const at = 8 + length + begin + 4 * roll((end - begin) / 4);
      new DataView(bytes.buffer).setUint32(at, bits, true);
      yield { what: `${name}: a weight of bits ${bits.toString(16)}`, bytes };
    }
  }
  yield {
    what: "bytes behind the last tensor",
    bytes: withHeader(json, Buffer.concat([data, data])),
  };
  yield { what: "metadata of numbers", bytes: withHeader(`{"__metadata__":{"a":1}}`, text("")) };
  yield { what: "a list of 100,000 lists", bytes: withHeader(`{"a":${"[".repeat(1e5)}`, data) };
}

/** Zips with a pickle that lie about themselves, or would call what no tensor needs. */
export function* hostileTorch(file: Uint8Array): Generator<Hostile> {
  const latin = Buffer.from(file).toString("latin1");
  const signatures = Array.from(latin.matchAll(/PK../gs), ({ index }) => index);
  yield* cuts(file, [
    ...signatures.flatMap((at) => [at, at + 1, at + 4, at + 12]),
    file.length - 1,
  ]);
  const view = (change: (view: DataView) => void): Uint8Array => {
    const bytes = file.slice();
    change(new DataView(bytes.buffer));
    return bytes;
  };
  for (const at of signatures.filter((place) => latin.startsWith("PK\u0001\u0002", place))) {
    for (const [field, offset] of [
      ["compressed size", 20],
      ["size", 24],
      ["header", 42],
    ] as const) {
      for (const value of [0x7fffffff, 0xfffffffe]) {
        const bytes = view((v) => v.setUint32(at + offset, value, true));
        yield { what: `entry at ${at}: ${field} ${value}`, bytes };
      }
    }
    for (const method of [8, 9, 14, 99]) {
      yield {
        what: `entry at ${at}: compressed by ${method}`,
        bytes: view((v) => v.setUint16(at + 10, method, true)),
      };
    }
    yield { what: `entry at ${at}: encrypted`, bytes: view((v) => v.setUint16(at + 8, 1, true)) };
    yield {
      what: `entry at ${at}: name of 64 KB`,
      bytes: view((v) => v.setUint16(at + 28, 65535, true)),
    };
  }
  const attacks = [
    "cos\nsystem\n",
    "cbuiltins\neval\n",
    "c__builtin__\n__import__\n",
    "ctorch\nload\n",
  ];
  for (const attack of attacks) {
    yield {
      what: `a pickle of ${JSON.stringify(attack)}`,
      bytes: zip("a/data.pkl", text(`\u0080\u0002${attack}(tR.`)),
    };
    const bytes = Uint8Array.from([0x80, 2, ...text(attack), 0x28, 0x74, 0x52, 0x2e]);
    yield { what: `a call of ${JSON.stringify(attack)}`, bytes: zip("a/data.pkl", bytes) };
  }
  const pickles: [string, number[]][] = [
    ["values popped from nothing", [0x80, 2, 0x52, 0x2e]],
    ["a mark that is not there", [0x80, 2, 0x74, 0x2e]],
    ["a recall of nothing", [0x80, 2, 0x68, 9, 0x2e]],
    ["a text of 4 GB", [0x80, 2, 0x58, 255, 255, 255, 255, 0x2e]],
    ["a number of 255 bytes", [0x80, 2, 0x8a, 255, 0x2e]],
    ["two million marks", [0x80, 2, ...Array.from({ length: 2_000_000 }, () => 0x28), 0x2e]],
    ["no end", [0x80, 2, 0x7d]],
    ["a list", [0x80, 2, 0x5d, 0x2e]],
    ["a list within itself", [0x80, 2, 0x5d, 0x71, 0, 0x68, 0, 0x61, 0x2e]],
    ["an instruction that is none", [0x80, 2, 0xff, 0x2e]],
  ];
  for (const [what, bytes] of pickles) {
    yield { what: `a pickle: ${what}`, bytes: zip("a/data.pkl", Uint8Array.from(bytes)) };
  }
  const bomb = deflateRawSync(new Uint8Array(64 << 20));
  yield { what: "a deflated bomb", bytes: zip("a/data.pkl", bomb, { method: 8, size: 64 << 20 }) };
  yield {
    what: "a path out of the zip",
    bytes: zip("../../data.pkl", Uint8Array.of(0x80, 2, 0x7d, 0x2e)),
  };
}

/** A zip of one file. */
function zip(
  path: string,
  bytes: Uint8Array,
  { method = 0, size = bytes.length }: { method?: number; size?: number } = {},
): Uint8Array {
  const name = text(path);
  const header = (signature: number, length: number): DataView => {
    const view = new DataView(new ArrayBuffer(length));
    view.setUint32(0, signature, true);
    return view;
  };
  const local = header(0x04034b50, 30);
  local.setUint16(8, method, true);
  local.setUint32(18, bytes.length, true);
  local.setUint32(22, size, true);
  local.setUint16(26, name.length, true);
  const central = header(0x02014b50, 46);
  central.setUint16(10, method, true);
  central.setUint32(20, bytes.length, true);
  central.setUint32(24, size, true);
  central.setUint16(28, name.length, true);
  const end = header(0x06054b50, 22);
  end.setUint16(10, 1, true);
  end.setUint32(12, 46 + name.length, true);
  end.setUint32(16, 30 + name.length + bytes.length, true);
  const parts = [local, name, bytes, central, name, end].map((part) =>
    part instanceof DataView ? new Uint8Array(part.buffer) : part,
  );
  return new Uint8Array(Buffer.concat(parts));
}

/** JSON cut off between any two of its tokens, with a key twice, or of another kind. */
export function* hostileJson(json: object, seed: number): Generator<Hostile> {
  const roll = dice(seed);
  const whole = JSON.stringify(json);
  const places = Array.from(whole.matchAll(/[{}[\]:,]/g), ({ index }) => index + 1);
  const some = places.filter((at) => at < whole.length && (places.length < 150 || roll(10) === 0));
  yield* cuts(text(whole), [0, ...some]);
  for (const other of ["null", "1e999", "true", '"text"', "NaN", "[".repeat(1e5), `{"a":1,}`]) {
    yield { what: `JSON: ${other.slice(0, 20)}`, bytes: text(other) };
  }
  if (!Array.isArray(json)) {
    const [key, value] = Object.entries(json)[0]!;
    const twice = `${whole.slice(0, -1)},${JSON.stringify(key)}:${JSON.stringify(value)}}`;
    yield { what: `${key} twice`, bytes: text(twice) };
  }
  yield {
    what: "bytes that are no UTF-8",
    bytes: Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d),
  };
  yield { what: "UTF-16", bytes: new Uint8Array(Buffer.from(whole, "utf16le")) };
}

/** Tokenizers with an id that is none, or so large that a list of ids would have no end. */
export function* hostileIds(tokenizer: object): Generator<Hostile> {
  const { model, added_tokens: added } = tokenizer as {
    model: { vocab: object };
    added_tokens: readonly object[];
  };
  for (const id of [-1, 0.5, "1", null, {}, 2 ** 24, 2 ** 32 - 2, HUGE]) {
    const vocab = { ...model.vocab, extra: id };
    const spelled = { ...tokenizer, model: { ...model, vocab } };
    yield { what: `the id ${JSON.stringify(id)}`, bytes: text(JSON.stringify(spelled)) };
    const special = { ...tokenizer, added_tokens: [...added, { ...added[0], id }] };
    yield { what: `an added id ${JSON.stringify(id)}`, bytes: text(JSON.stringify(special)) };
  }
}

/** JSON past a limit: one byte too long, and of few bytes that are much memory. */
export function* muchJson({ bytes }: JsonLimits): Generator<Hostile> {
  yield { what: `${bytes + 1} bytes`, bytes: Buffer.alloc(bytes + 1, " ") };
  for (const part of PARTS) {
    yield { what: `as many bytes of ${part} as allowed`, bytes: text(jsonOf(part, bytes)) };
  }
}

/** safetensors whose header is much memory. */
export function* hostileHeaders({ bytes }: JsonLimits): Generator<Hostile> {
  for (const part of PARTS) {
    const header = withHeader(jsonOf(part, bytes), new Uint8Array(0));
    yield { what: `a header of as many bytes of ${part} as allowed`, bytes: header };
  }
}

const PARTS = ["[],", "{},", '"",', "0,", '{"":0},'];

/** JSON of so many bytes at most that is one thing over and over. */
function jsonOf(part: string, bytes: number): string {
  return `{"a":[${part.repeat(Math.floor((bytes - 9) / part.length))}0]}`;
}

/** Configurations with one size that is none. */
export function* hostileConfig(config: Readonly<Record<string, unknown>>): Generator<Hostile> {
  const sizes = [
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
  ];
  const values = [-1, 0, 0.5, HUGE, 1e308, 2 ** 31, 2 ** 20 + 4, "4", [], {}, true];
  for (const field of sizes) {
    for (const value of values) {
      const bytes = text(JSON.stringify({ ...config, [field]: value }));
      yield { what: `${field}: ${JSON.stringify(value)}`, bytes };
    }
  }
  const others: Record<string, unknown>[] = [
    { model_type: "mpnet" },
    { model_type: "__proto__" },
    { hidden_act: "relu" },
    { position_embedding_type: "relative_key" },
    { layer_norm_eps: -1 },
    { hidden_dropout_prob: 2 },
    { simcse_edge: [] },
    { simcse_edge: { pooling: "constructor" } },
    { simcse_edge: { max_length: HUGE } },
    { simcse_edge: { dtype: "int1" } },
    { simcse_edge: { modules: [{ type: "dense", inputs: HUGE, outputs: 4, activation: "tanh" }] } },
  ];
  for (const fields of others) {
    yield { what: JSON.stringify(fields), bytes: text(JSON.stringify({ ...config, ...fields })) };
  }
}

/** Lists of modules, and of shards, that lead elsewhere or nowhere. */
export const PATHS: readonly string[] = [
  "../x",
  "/etc",
  "a/../../x",
  "..\\x",
  "C:x",
  "a/..",
  "..",
  "\\\\host\\x",
];

export function* hostileModules(): Generator<Hostile> {
  const transformer = {
    idx: 0,
    name: "0",
    path: "",
    type: "sentence_transformers.models.Transformer",
  };
  const lists: unknown[] = [
    {},
    [],
    [1],
    [null],
    [{ ...transformer, type: "os.system" }],
    [{ ...transformer, type: "__proto__" }],
    [{ ...transformer, path: 7 }],
    [transformer, transformer],
    [{ ...transformer, type: "x.Pooling" }],
    ...PATHS.map((path) => [transformer, { ...transformer, path, type: "x.Dense" }]),
    ...PATHS.filter((path) => path !== "a/..").map((path) => [{ ...transformer, path }]),
  ];
  for (const list of lists) {
    const json = JSON.stringify(list);
    yield { what: json.slice(0, 120), bytes: text(json) };
  }
}

/** Index files: cut, with a bit flipped, or with a right checksum over what is none. */
export function* hostileIndex(file: Uint8Array, seed: number): Generator<Hostile> {
  const roll = dice(seed);
  yield* cuts(
    file,
    Array.from({ length: 100 }, () => roll(file.length)),
  );
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  for (let i = 0; i < 150; i++) {
    const bytes = file.slice();
    const at = 8 + length + roll(file.length - 8 - length);
    bytes[at]! ^= 1 << roll(8);
    yield { what: `a flipped bit in byte ${at}`, bytes };
  }
  yield { what: "another safetensors file", bytes: serializeSafetensors([]) };
  const empty: [string, SafetensorsTensor][] = [
    ["items", { dtype: "U8", shape: [2], data: text("[]") }],
  ];
  for (const dimension of ["", "0", "-4", "1e3", "9007199254740993", "9999", "NaN"]) {
    const metadata = { format: "simcse-edge index 1", precision: "float32", dimension, sha256: "" };
    yield { what: `dimension ${dimension}`, bytes: serializeSafetensors(empty, metadata) };
  }
}

/** Parquet: cut, and tables that are bombs. */
export function* hostileParquet(file: Uint8Array): Generator<Hostile> {
  yield* cuts(
    file,
    Array.from({ length: file.length / 4 }, (_, i) => 4 * i),
  );
}

/** Small compressed text that is one line of a gigabyte, or damaged. */
export function* hostileGzip(): Generator<Hostile> {
  const whole = gzipSync("a\nb\n".repeat(10_000));
  yield* cuts(whole, Array.from({ length: whole.length }, (_, i) => i).slice(1));
  const line = gzipSync(Buffer.alloc(40 << 20, "a"));
  yield { what: "a line of 40 MB", bytes: Buffer.concat([line, line]) };
}
