/**
 * PyTorch's `pytorch_model.bin`: a zip of a pickle, which says what tensors there are, and of their storages. A pickle is a
 * program; this reader executes none of it. It knows the instructions that a dictionary of tensors is made with, and three
 * names: a storage's type, `_rebuild_tensor_v2` (with the parameter that wraps it) and `OrderedDict`. All else is refused.
 *
 * https://docs.python.org/3/library/pickletools.html, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
 */
import { FormatError } from "../errors.ts";
import type { SafetensorsDtype, SafetensorsTensor } from "./safetensors.ts";

type Fail = (problem: string) => never;

const STORAGES: Readonly<Record<string, readonly [dtype: SafetensorsDtype, bytes: number]>> = {
  DoubleStorage: ["F64", 8],
  FloatStorage: ["F32", 4],
  HalfStorage: ["F16", 2],
  BFloat16Storage: ["BF16", 2],
  LongStorage: ["I64", 8],
  IntStorage: ["I32", 4],
  CharStorage: ["I8", 1],
  ByteStorage: ["U8", 1],
  BoolStorage: ["BOOL", 1],
};

/** The names that a pickle may call, each with the Python path it must have. */
const CALLABLE = new Set([
  "torch._utils._rebuild_tensor_v2",
  "torch._utils._rebuild_parameter",
  "collections.OrderedDict",
]);

/** A tensor of a state dictionary has fewer; more would only be a way to make us work. */
const MAX_DIMENSIONS = 8;
const MAX_STACK = 1_000_000;

/** What a pickle's instructions leave on its stack. */
type Value =
  | { readonly kind: "number"; readonly value: number }
  | { readonly kind: "text"; readonly value: string }
  | { readonly kind: "none" }
  | { readonly kind: "mark" }
  | { readonly kind: "name"; readonly value: string }
  | { readonly kind: "list"; readonly items: Value[] }
  | { readonly kind: "dictionary"; readonly entries: Map<string, Value> }
  | { readonly kind: "storage"; readonly dtype: SafetensorsDtype; readonly data: Uint8Array }
  | { readonly kind: "tensor"; readonly tensor: SafetensorsTensor };

/**
 * Reads the tensors of a state dictionary. They are copies where their elements do not lie row by row, else views.
 * @throws FormatError naming the file, and the tensor or the instruction that is not what it should be
 */
export function parseTorch(file: Uint8Array, name: string): Map<string, SafetensorsTensor> {
  const fail: Fail = (problem) => {
    throw new FormatError(`${name}: ${problem}; convert it to safetensors where you trust it`);
  };
  const bytes = new Uint8Array(file.buffer, file.byteOffset, file.length); // a Buffer's `slice` would not copy
  const entries = readZip(bytes, fail);
  const pickle = [...entries.keys()].find((path) => /^[^/]+\/data\.pkl$/.test(path));
  if (pickle === undefined) {
    return fail("expected a zip with data.pkl, as PyTorch writes since 1.6, found none");
  }
  const folder = pickle.slice(0, -"data.pkl".length);
  const order = entries.get(`${folder}byteorder`);
  if (order && new TextDecoder().decode(order).trim() !== "little") {
    return fail("expected little-endian storages, found big-endian ones");
  }
  const storage = (key: string): Uint8Array =>
    entries.get(`${folder}data/${key}`) ?? fail(`storage ${key} is absent`);
  const result = new Unpickler(entries.get(pickle)!, storage, bytes.length, fail).run();
  if (result.kind !== "dictionary") return fail(`expected a dictionary, found a ${result.kind}`);
  const nested = result.entries.get("state_dict");
  const { entries: state } = nested?.kind === "dictionary" ? nested : result;
  const tensors = new Map<string, SafetensorsTensor>();
  for (const [key, value] of state) if (value.kind === "tensor") tensors.set(key, value.tensor);
  return tensors;
}

/** The files of a zip by their paths, none of them compressed: PyTorch stores, and so nothing can be a bomb. */
function readZip(bytes: Uint8Array, fail: Fail): Map<string, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const within = (at: number, length: number, what: string): number =>
    Number.isSafeInteger(at) && at >= 0 && at + length <= bytes.length
      ? at
      : fail(`${what} lies past the end of ${bytes.length} bytes; is the file cut off?`);
  const large = (at: number): number => Number(view.getBigUint64(at, true));

  let end = bytes.length - 22;
  const last = Math.max(0, end - 65535); // the comment behind it is at most this long
  while (end >= last && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < last) return fail("expected a zip, as PyTorch writes since 1.6, found none");
  let count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  if (end >= 20 && view.getUint32(end - 20, true) === 0x07064b50) {
    const record = within(large(end - 20 + 8), 56, "the zip64 end record");
    if (view.getUint32(record, true) !== 0x06064b50) return fail("the zip64 end record is none");
    count = large(record + 32);
    at = large(record + 48);
  }
  const files = new Map<string, Uint8Array>();
  for (let i = 0; i < count; i++) {
    within(at, 46, "the zip's directory");
    if (view.getUint32(at, true) !== 0x02014b50) return fail(`entry ${i} of the zip is none`);
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((offset) =>
      view.getUint16(at + offset, true),
    ) as [number, number, number];
    within(at + 46, nameLength + extraLength + commentLength, "the zip's directory");
    const path = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    let size = view.getUint32(at + 24, true);
    let stored = view.getUint32(at + 20, true);
    let header = view.getUint32(at + 42, true);
    const extraEnd = at + 46 + nameLength + extraLength;
    for (let extra = at + 46 + nameLength; extra + 4 <= extraEnd;) {
      const next = extra + 4 + view.getUint16(extra + 2, true);
      if (view.getUint16(extra, true) === 1) {
        let field = extra + 4; // sizes and offset, each only if it did not fit
        const wide = (value: number): number => {
          if (value !== 0xffffffff) return value;
          field += 8;
          return field <= Math.min(next, extraEnd)
            ? large(field - 8)
            : fail(`${path}: zip64 sizes are absent`);
        };
        [size, stored, header] = [wide(size), wide(stored), wide(header)];
      }
      extra = next;
    }
    if (view.getUint16(at + 10, true) !== 0 || size !== stored) {
      return fail(`${path} is compressed, which PyTorch does not do`);
    }
    if ((view.getUint16(at + 8, true) & 1) !== 0) return fail(`${path} is encrypted`);
    within(header, 30, path);
    if (view.getUint32(header, true) !== 0x04034b50) return fail(`${path} has no header`);
    const begin =
      header + 30 + view.getUint16(header + 26, true) + view.getUint16(header + 28, true);
    within(begin, size, path);
    if (files.has(path)) return fail(`${path} is twice in the zip`);
    files.set(path, bytes.subarray(begin, begin + size));
    at += 46 + nameLength + extraLength + commentLength;
  }
  return files;
}

/** A stack machine for the instructions of protocol 2 to 4 that PyTorch's dictionaries need. */
class Unpickler {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #storage: (key: string) => Uint8Array;
  readonly #fail: Fail;
  readonly #stack: Value[] = [];
  readonly #memo = new Map<number, Value>();
  #at = 0;
  /** Bytes that copies of tensors may still take: as many as the file has. */
  #room: number;

  constructor(bytes: Uint8Array, storage: (key: string) => Uint8Array, room: number, fail: Fail) {
    this.#bytes = bytes;
    this.#room = room;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#storage = storage;
    this.#fail = fail;
  }

  run(): Value {
    for (;;) {
      const at = this.#at;
      const code = this.#bytes[this.#take(1)]!;
      const instruction = String.fromCharCode(code);
      switch (code) {
        case 0x80: // PROTO
          this.#take(1);
          break;
        case 0x95: // FRAME
          this.#take(8);
          break;
        case 0x2e: // STOP
          return this.#pop();
        case 0x28: // MARK
          this.#push({ kind: "mark" });
          break;
        case 0x4e: // NONE
          this.#push({ kind: "none" });
          break;
        case 0x88: // NEWTRUE
        case 0x89: // NEWFALSE
          this.#push({ kind: "number", value: code === 0x88 ? 1 : 0 });
          break;
        case 0x4b: // BININT1
          this.#push({ kind: "number", value: this.#bytes[this.#take(1)]! });
          break;
        case 0x4d: // BININT2
          this.#push({ kind: "number", value: this.#view.getUint16(this.#take(2), true) });
          break;
        case 0x4a: // BININT
          this.#push({ kind: "number", value: this.#view.getInt32(this.#take(4), true) });
          break;
        case 0x8a: // LONG1
          this.#push({ kind: "number", value: this.#long(this.#bytes[this.#take(1)]!) });
          break;
        case 0x47: // BINFLOAT
          this.#push({ kind: "number", value: this.#view.getFloat64(this.#take(8)) });
          break;
        case 0x58: // BINUNICODE
          this.#push({
            kind: "text",
            value: this.#text(this.#view.getUint32(this.#take(4), true)),
          });
          break;
        case 0x8c: // SHORT_BINUNICODE
          this.#push({ kind: "text", value: this.#text(this.#bytes[this.#take(1)]!) });
          break;
        case 0x29: // EMPTY_TUPLE
        case 0x5d: // EMPTY_LIST
          this.#push({ kind: "list", items: [] });
          break;
        case 0x7d: // EMPTY_DICT
          this.#push({ kind: "dictionary", entries: new Map() });
          break;
        case 0x74: // TUPLE
          this.#push({ kind: "list", items: this.#sinceMark() });
          break;
        case 0x85: // TUPLE1, TUPLE2, TUPLE3
        case 0x86:
        case 0x87:
          this.#push({ kind: "list", items: this.#popMany(code - 0x84) });
          break;
        case 0x61: // APPEND
        case 0x65: {
          // APPENDS
          const items = code === 0x61 ? [this.#pop()] : this.#sinceMark();
          const { items: list } = this.#top("list");
          for (const item of items) list.push(item);
          break;
        }
        case 0x73: // SETITEM
        case 0x75: // SETITEMS
          this.#setItems(code === 0x73 ? this.#popMany(2) : this.#sinceMark());
          break;
        case 0x71: // BINPUT
          this.#memo.set(this.#bytes[this.#take(1)]!, this.#peek());
          break;
        case 0x72: // LONG_BINPUT
          this.#memo.set(this.#view.getUint32(this.#take(4), true), this.#peek());
          break;
        case 0x94: // MEMOIZE
          this.#memo.set(this.#memo.size, this.#peek());
          break;
        case 0x68: // BINGET
          this.#recall(this.#bytes[this.#take(1)]!);
          break;
        case 0x6a: // LONG_BINGET
          this.#recall(this.#view.getUint32(this.#take(4), true));
          break;
        case 0x63: // GLOBAL
          this.#push(this.#name(`${this.#line()}.${this.#line()}`));
          break;
        case 0x93: {
          // STACK_GLOBAL
          const [module, member] = this.#popMany(2).map((part) => this.#expect(part, "text").value);
          this.#push(this.#name(`${module}.${member}`));
          break;
        }
        case 0x51: // BINPERSID
          this.#push(this.#persistent(this.#expect(this.#pop(), "list").items));
          break;
        case 0x52: {
          // REDUCE
          const [callable, list] = this.#popMany(2);
          const { items } = this.#expect(list, "list");
          this.#push(this.#call(this.#expect(callable, "name").value, items));
          break;
        }
        case 0x62: // BUILD: attributes of the dictionary itself, `_metadata` in a state dictionary
          this.#pop();
          this.#top("dictionary");
          break;
        default:
          this.#fail(
            `instruction ${JSON.stringify(instruction)} (${code}) at byte ${at} of data.pkl is none that a dictionary of tensors needs`,
          );
      }
    }
  }

  #name(path: string): Value {
    const [, storage] = /^torch\.(\w+)$/.exec(path) ?? [];
    if (CALLABLE.has(path) || (storage && Object.hasOwn(STORAGES, storage))) {
      return { kind: "name", value: path };
    }
    return this.#fail(
      `data.pkl names ${path.slice(0, 80)}, which no dictionary of tensors needs and which may be an attack`,
    );
  }

  #call(path: string, items: readonly Value[]): Value {
    switch (path) {
      case "collections.OrderedDict":
        if (items.length > 0) this.#fail("OrderedDict is called with arguments");
        return { kind: "dictionary", entries: new Map() };
      case "torch._utils._rebuild_tensor_v2":
        return this.#tensor(items);
      case "torch._utils._rebuild_parameter":
        return this.#expect(items[0], "tensor");
      default:
        return this.#fail(`data.pkl calls ${path}`);
    }
  }

  /** ("storage", its type, its key, its device, how many elements). */
  #persistent([tag, type, key, , count]: readonly Value[]): Value {
    if (this.#expect(tag, "text").value !== "storage") this.#fail("expected a storage");
    const [dtype, bytes] = STORAGES[this.#expect(type, "name").value.slice("torch.".length)] ?? [];
    if (!dtype || !bytes) return this.#fail("expected the type of a storage");
    const name = this.#expect(key, "text").value;
    const data = this.#storage(name);
    const elements = this.#expect(count, "number").value;
    if (data.length !== elements * bytes) {
      this.#fail(
        `storage ${name}: ${elements} elements of ${dtype} take ${elements * bytes} bytes, found ${data.length}`,
      );
    }
    return { kind: "storage", dtype, data };
  }

  /** (storage, offset, shape, strides, …), in elements. */
  #tensor([source, start, sizes, steps]: readonly Value[]): Value {
    const { dtype, data } = this.#expect(source, "storage");
    const numbers = (value: Value | undefined): number[] =>
      this.#expect(value, "list").items.map((item) => this.#expect(item, "number").value);
    const [shape, strides] = [numbers(sizes), numbers(steps)];
    const offset = this.#expect(start, "number").value;
    const width = Object.values(STORAGES).find(([known]) => known === dtype)![1];
    const valid = [offset, ...shape, ...strides].every((n) => Number.isSafeInteger(n) && n >= 0);
    if (!valid || shape.length !== strides.length || shape.length > MAX_DIMENSIONS) {
      return this.#fail(
        `a tensor of shape [${shape.slice(0, 9).join(", ")}] and strides [${strides.slice(0, 9).join(", ")}]`,
      );
    }
    const count = shape.reduce((product, n) => product * n, 1);
    const reach =
      count === 0 ? offset : shape.reduce((last, n, i) => last + (n - 1) * strides[i]!, offset) + 1;
    if (reach * width > data.length || count * width > data.length) {
      return this.#fail(
        `a tensor [${shape.join(", ")}] reaches element ${reach} of a storage of ${data.length / width}`,
      );
    }
    const rows = shape.map((_, i) => shape.slice(i + 1).reduce((product, n) => product * n, 1));
    if (count === 0 || rows.every((step, i) => shape[i] === 1 || step === strides[i])) {
      const bytes = data.subarray(offset * width, (offset + count) * width);
      return { kind: "tensor", tensor: { dtype, shape, data: bytes } };
    }
    this.#room -= count * width;
    if (this.#room < 0) this.#fail("tensors are taken from storages again and again");
    const copy = new Uint8Array(count * width);
    for (let i = 0; i < count; i++) {
      const from = rows.reduce(
        (element, step, d) => element + (Math.floor(i / step) % shape[d]!) * strides[d]!,
        offset,
      );
      copy.set(data.subarray(from * width, (from + 1) * width), i * width);
    }
    return { kind: "tensor", tensor: { dtype, shape, data: copy } };
  }

  #setItems(items: readonly Value[]): void {
    const { entries } = this.#top("dictionary");
    for (let i = 0; i + 1 < items.length; i += 2) {
      const key = items[i]!;
      // Optimiser states have numbers for keys; only what has a name can be a weight.
      if (key.kind === "text") entries.set(key.value, items[i + 1]!);
    }
  }

  #recall(index: number): void {
    this.#push(
      this.#memo.get(index) ?? this.#fail(`data.pkl recalls ${index}, which it never kept`),
    );
  }

  #push(value: Value): void {
    if (this.#stack.length >= MAX_STACK) this.#fail("data.pkl has more than a million open values");
    this.#stack.push(value);
  }

  #peek(): Value {
    return this.#stack.at(-1) ?? this.#fail("data.pkl takes a value where there is none");
  }

  #pop(): Value {
    return this.#stack.pop() ?? this.#fail("data.pkl takes a value where there is none");
  }

  #popMany(count: number): Value[] {
    return Array.from({ length: count }, () => this.#pop()).toReversed();
  }

  #sinceMark(): Value[] {
    const mark = this.#stack.findLastIndex(({ kind }) => kind === "mark");
    if (mark < 0) this.#fail("data.pkl takes values since a mark it never set");
    return this.#stack.splice(mark).slice(1);
  }

  #top<Kind extends Value["kind"]>(kind: Kind): Extract<Value, { kind: Kind }> {
    return this.#expect(this.#peek(), kind);
  }

  #expect<Kind extends Value["kind"]>(
    value: Value | undefined,
    kind: Kind,
  ): Extract<Value, { kind: Kind }> {
    if (value?.kind === kind) return value as Extract<Value, { kind: Kind }>;
    return this.#fail(
      `data.pkl: expected a ${kind}, found ${value ? `a ${value.kind}` : "nothing"}`,
    );
  }

  #take(bytes: number): number {
    const at = this.#at;
    if (at + bytes > this.#bytes.length) this.#fail("data.pkl ends in the middle");
    this.#at += bytes;
    return at;
  }

  #text(length: number): string {
    const at = this.#take(length);
    return new TextDecoder().decode(this.#bytes.subarray(at, at + length));
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0) this.#fail("data.pkl ends in the middle");
    const text = this.#text(end - this.#at);
    this.#take(1);
    return text;
  }

  /** A little-endian integer in two's complement. */
  #long(length: number): number {
    if (length > 8) this.#fail(`data.pkl has a number of ${length} bytes`);
    const at = this.#take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.#bytes[at + i]!);
    return Number(BigInt.asIntN(8 * length, value));
  }
}
