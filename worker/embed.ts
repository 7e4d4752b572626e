/** Texts of requests to token ids, and those to vectors that are safe to send. */
import * as v from "valibot";
import { promptOf, type PromptOptions } from "../src/model/prompts.ts";
import { turn } from "../src/runtime/turn.ts";
import type { EncodeOptions, SentenceModel, TokenIds } from "../src/simcse.ts";
import type { Api } from "./app.ts";
import { ApiError } from "./errors.ts";
import type { Limits } from "./limits.ts";

/** What a client wants a vector of. */
export type Input = string | readonly number[];

export const Text: v.GenericSchema<string> = v.pipe(
  v.string("expected a string"),
  v.nonEmpty("must not be empty"),
);
const Ids: v.GenericSchema<number[]> = v.pipe(
  v.array(v.pipe(v.number("expected a token id"), v.integer("expected a whole number"))),
  v.nonEmpty("must not be empty"),
);

/** A list of what a schema describes, of as many inputs as a request may have. */
export const listOf = <S extends v.GenericSchema>(
  schema: S,
  { inputs }: Limits,
): v.GenericSchema<v.InferInput<S>[], v.InferOutput<S>[]> =>
  v.pipe(
    v.array(schema, "expected an array"),
    v.nonEmpty("must not be empty"),
    v.maxLength(inputs, (issue) => `expected at most ${inputs}, found ${issue.received}`),
  );

/** What one of a thing is, as a list of it. */
const single = <T extends Input>(schema: v.GenericSchema<T>): v.GenericSchema<T, T[]> =>
  v.pipe(
    schema,
    v.transform((input) => [input]),
  );

/**
 * One text or many, each a string or token ids. The first element decides which, so that errors name the odd one out; what is
 * none of them is told all of them.
 */
export const inputSchema = (limits: Limits): v.GenericSchema<Input | Input[], Input[]> => {
  const [text, ids] = [single(Text), single(Ids)];
  const [texts, idLists] = [listOf(Text, limits), listOf(Ids, limits)];
  const any = v.union(
    [text, ids, texts, idLists],
    "expected a string, an array of strings or token ids",
  );
  return v.lazy((input): v.GenericSchema<Input | Input[], Input[]> => {
    if (typeof input === "string") return text;
    if (!Array.isArray(input)) return any;
    if (typeof input[0] === "number") return ids;
    return Array.isArray(input[0]) ? idLists : texts;
  });
};

/** One text or many. */
export const textsSchema = (limits: Limits): v.GenericSchema<string | string[], string[]> => {
  const [one, many] = [single(Text), listOf(Text, limits)];
  const any = v.union([one, many], "expected a string or an array of strings");
  return v.lazy((input): v.GenericSchema<string | string[], string[]> => {
    if (typeof input === "string") return one;
    return Array.isArray(input) ? many : any;
  });
};

export interface TokenizeOptions extends PromptOptions {
  /** Field of the request that the inputs came in, for errors. */
  readonly param: string;
  /** Field of each element of `param`, where they are objects. */
  readonly field?: string;
  /** The end that is cut off a text that is too long; without it such a text is refused. */
  readonly truncate?: "left" | "right" | undefined;
  readonly signal: AbortSignal;
}

/** Characters that are tokenized between two looks at what else is going on. */
const TURN_CHARACTERS = 65_536;

/**
 * Token ids that the model will take.
 * @throws ApiError naming the input that is too long or has an id that is none, or for more tokens in sum than the limit
 */
export async function tokenize(
  model: SentenceModel,
  inputs: readonly Input[],
  { limits, metrics }: Pick<Api, "limits" | "metrics">,
  { param, field, truncate, signal, ...prompt }: TokenizeOptions,
): Promise<TokenIds[]> {
  const prefix = promptOf(model.config, prompt);
  const texts: TokenIds[] = [];
  let characters = 0;
  let tokens = 0;
  for (const [i, input] of inputs.entries()) {
    let name = inputs.length === 1 ? param : `${param}[${i}]`;
    if (field !== undefined) name = `${param}[${i}].${field}`;
    const ids = tokenizeOne(
      model,
      typeof input === "string" ? prefix + input : input,
      name,
      truncate,
    );
    tokens += ids.length;
    metrics.text(ids.length);
    if (tokens > limits.tokens) {
      const message = `more than ${limits.tokens} tokens in sum; send fewer at a time`;
      throw new ApiError(400, `${param}: ${message}`, { param });
    }
    texts.push(ids);
    characters += input.length;
    if (characters > TURN_CHARACTERS) {
      await turn();
      signal.throwIfAborted();
      characters = 0;
    }
  }
  return texts;
}

function tokenizeOne(
  { config, tokenizer }: SentenceModel,
  input: Input,
  name: string,
  truncate: "left" | "right" | undefined,
): TokenIds {
  const { maxLength } = config;
  const fail = (message: string): never => {
    throw new ApiError(400, `${name}: ${message}`, { param: name });
  };
  const tooLong = `longer than the model's ${maxLength} tokens`;
  if (typeof input === "string") {
    if (truncate === "left") return tokenizer.encodeEnd(input, maxLength);
    const { ids, truncated } = tokenizer.encode(input, maxLength);
    if (truncated && truncate === undefined) fail(tooLong);
    // Only a static model can have nothing to add up.
    const { table } = config;
    if (table && ids.every((id) => id === table.ignoredId))
      fail("has no word that the model knows");
    return ids;
  }
  const { vocabSize } = config.encoder;
  const alien = input.find((id) => id < 0 || id >= vocabSize);
  if (alien !== undefined) fail(`token id ${alien} is outside the vocabulary of ${vocabSize}`);
  if (input.length <= maxLength) return input;
  if (truncate === undefined) fail(tooLong);
  return truncate === "left" ? input.slice(-maxLength) : input.slice(0, maxLength);
}

/**
 * Vectors of token ids: JSON would turn a component that is no number into null, and a vector of zeros is near nothing.
 * @throws Error for a vector of which either is true
 */
export async function embed(
  model: SentenceModel,
  tokenIds: readonly TokenIds[],
  options: EncodeOptions,
): Promise<Float32Array[]> {
  const vectors = await model.encode(tokenIds, options);
  for (const vector of vectors) {
    const largest = vector.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    if (!(largest > 0 && largest < Infinity)) {
      throw new Error("internal: an embedding is zero or not finite");
    }
  }
  return vectors;
}

/** What clients of different services call the two sides of a search. */
const PURPOSES: Readonly<Record<string, readonly string[]>> = {
  query: ["query"],
  search_query: ["query"],
  document: ["document", "passage"],
  passage: ["document", "passage"],
  search_document: ["document", "passage"],
};
export const INPUT_TYPES: readonly string[] = Object.keys(PURPOSES);

/**
 * The prompt by a name of the model's own, or by the purpose of a text; a model without a prompt for it needs none.
 * @throws ApiError for a name that the model does not have
 */
export function promptFor(
  { config }: SentenceModel,
  { name, inputType }: { name?: string | null | undefined; inputType?: string | undefined },
): PromptOptions {
  const prompts = config.prompts ?? {};
  if (name !== undefined && name !== null) {
    if (Object.hasOwn(prompts, name)) return { promptName: name };
    const known = Object.keys(prompts).join(", ") || "none";
    throw new ApiError(400, `prompt_name: the model's are ${known}`, { param: "prompt_name" });
  }
  if (inputType === undefined) return {};
  const found = PURPOSES[inputType]!.find((purpose) => Object.hasOwn(prompts, purpose));
  return found === undefined ? { prompt: "" } : { promptName: found };
}

/** @throws ApiError for fewer dimensions than one, or more than the model has */
export function expectDimensions({ dimension }: SentenceModel, dimensions: number): void {
  if (dimensions >= 1 && dimensions <= dimension) return;
  const message = `dimensions: expected 1 to ${dimension}, found ${dimensions}`;
  throw new ApiError(400, message, { param: "dimensions" });
}
