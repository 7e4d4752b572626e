/**
 * Filters on metadata, in the dialect of Cloudflare's Vectorize, so that every store answers the same:
 *
 *     { "section": "money" }                            equals
 *     { "year": { "$gte": 2020, "$lt": 2024 } }         a range, of numbers or of strings
 *     { "author.name": { "$in": ["Ada", "Grace"] } }    one of some; a dot leads into an object
 *
 * A document passes that meets all conditions. A field that it does not have meets `$ne` and `$nin`, and nothing else.
 */
import * as v from "valibot";
import type { Metadata } from "../../src/search/flat-index.ts";

type Scalar = string | number | boolean;
type Operators = Readonly<Record<string, Scalar | readonly Scalar[]>>;
/** Conditions by field; the dots of a field lead into objects. */
export type Filter = Readonly<Record<string, Scalar | Operators>>;

/** Vectorize's bounds of a filter, as JSON and of a key. */
const FILTER_BYTES = 2048;
const KEY_CHARACTERS = 512;
/** Objects that may lie in one another, the metadata among them. */
const DEPTH = 2;

const isScalar = (value: unknown): value is Scalar =>
  ["string", "number", "boolean"].includes(typeof value);
const isOrdered = (value: unknown): value is string | number =>
  typeof value === "string" || typeof value === "number";
const isScalars = (value: unknown): value is readonly Scalar[] =>
  Array.isArray(value) && value.every(isScalar);
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

interface Operator {
  readonly expected: string;
  readonly takes: (operand: unknown) => boolean;
  /** Whether a field's value, `undefined` where there is none, meets the operand. */
  readonly meets: (value: unknown, operand: never) => boolean;
}
const equality = { expected: "a string, a number, true or false", takes: isScalar } as const;
const list = { expected: "an array of strings, numbers, true or false", takes: isScalars };
const order = (meets: (value: never, bound: never) => boolean): Operator => ({
  expected: "a string or a number",
  takes: isOrdered,
  meets: (value, bound) => typeof value === typeof bound && meets(value as never, bound),
});
const OPERATORS: Readonly<Record<string, Operator>> = {
  $eq: { ...equality, meets: (value, operand: Scalar) => value === operand },
  $ne: { ...equality, meets: (value, operand: Scalar) => value !== operand },
  $in: { ...list, meets: (value, operand: readonly unknown[]) => operand.includes(value) },
  $nin: { ...list, meets: (value, operand: readonly unknown[]) => !operand.includes(value) },
  $lt: order((value, bound) => value < bound),
  $lte: order((value, bound) => value <= bound),
  $gt: order((value, bound) => value > bound),
  $gte: order((value, bound) => value >= bound),
};
const NAMES = Object.keys(OPERATORS).join(", ");

/** Whether metadata meets all conditions of a filter. */
export function matches(filter: Filter, metadata: Metadata | undefined): boolean {
  return Object.entries(filter).every(([field, condition]) => {
    const value = field
      .split(".")
      .reduce<unknown>(
        (inner, key) => (isObject(inner) && Object.hasOwn(inner, key) ? inner[key] : undefined),
        metadata,
      );
    if (!isObject(condition)) return value === condition;
    return Object.entries(condition).every(([name, operand]) =>
      OPERATORS[name]!.meets(value, operand as never),
    );
  });
}

/** What is wrong with a filter, if anything is. */
function problemOf(filter: unknown): string | undefined {
  if (!isObject(filter)) return "expected an object";
  const fields = Object.entries(filter);
  if (fields.length === 0) return "must not be empty";
  for (const [field, condition] of fields) {
    const broken = field.split(".").map(keyProblem).find(Boolean);
    if (broken) return `${broken} in the field ${JSON.stringify(field.slice(0, 40))}`;
    const name = JSON.stringify(field.slice(0, 40));
    if (isScalar(condition)) continue;
    if (!isObject(condition) || Object.keys(condition).length === 0) {
      return `${name}: expected a string, a number, true, false or an object of ${NAMES}`;
    }
    for (const [key, operand] of Object.entries(condition)) {
      const operator = Object.hasOwn(OPERATORS, key) ? OPERATORS[key]! : undefined;
      if (!operator) return `${name}: expected one of ${NAMES}`;
      if (!operator.takes(operand)) return `${name}: ${key}: expected ${operator.expected}`;
    }
  }
  const bytes = bytesOf(JSON.stringify(filter));
  return bytes < FILTER_BYTES
    ? undefined
    : `expected less than ${FILTER_BYTES} bytes of JSON, found ${bytes}`;
}

/** What is wrong with a key of metadata. Keys that JavaScript gives a meaning are left out for its sake. */
function keyProblem(key: string): string | undefined {
  if (key === "") return "an empty key";
  if (key.length > KEY_CHARACTERS) return `a key of more than ${KEY_CHARACTERS} characters`;
  if (/^\$|["|.]/.test(key))
    return 'a key with a dot, a quote or "|", or one that begins with "$",';
  return key === "__proto__" ? "the key __proto__" : undefined;
}

function metadataProblem(value: unknown, depth: number): string | undefined {
  if (isScalar(value)) return undefined;
  if (Array.isArray(value)) {
    const strings = value.every((entry) => typeof entry === "string");
    return strings ? undefined : "expected lists only of strings";
  }
  if (!isObject(value)) return "expected no null; leave the field out";
  if (depth > DEPTH) return `expected at most ${DEPTH} objects in one another`;
  for (const [key, inner] of Object.entries(value)) {
    const problem = keyProblem(key);
    const found = problem ? `${problem} is not possible` : metadataProblem(inner, depth + 1);
    if (found) return found;
  }
  return undefined;
}

/** Metadata of a document, of so many bytes of JSON at most, under keys that a filter can name. */
export const metadataSchema = (bytes: number): v.GenericSchema<unknown, Metadata> =>
  checked((value) => {
    if (!isObject(value)) return "expected an object";
    // It stands beside the metadata in Vectorize.
    if (Object.hasOwn(value, "text")) return "the key text is the document's own";
    const problem = metadataProblem(value, 1);
    if (problem) return problem;
    const found = bytesOf(JSON.stringify(value));
    return found <= bytes ? undefined : `expected at most ${bytes} bytes of JSON, found ${found}`;
  });

export const filterSchema: v.GenericSchema<unknown, Filter> = checked(problemOf);

/** What passes a check that says what is wrong; valibot's own records would drop keys such as "constructor". */
function checked<T>(problem: (value: unknown) => string | undefined): v.GenericSchema<unknown, T> {
  return v.pipe(
    v.unknown(),
    v.rawTransform<unknown, T>(({ dataset, addIssue, NEVER }) => {
      const message = problem(dataset.value);
      if (message === undefined) return dataset.value as T;
      addIssue({ message });
      return NEVER;
    }),
  );
}

/** Bytes of a text in UTF-8. */
export function bytesOf(text: string): number {
  return new TextEncoder().encode(text).length;
}
