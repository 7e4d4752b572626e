/** Texts of requests to token ids, and those to vectors that are safe to send. */
import * as v from "valibot";
import { promptOf, type PromptOptions } from "../src/model/prompts.ts";
import type { EncodeOptions, SentenceModel, TokenIds } from "../src/simcse.ts";
import { ApiError } from "./errors.ts";
import type { Limits } from "./limits.ts";

export const Text: v.GenericSchema<string> = v.pipe(
  v.string("expected a string"),
  v.nonEmpty("must not be empty"),
);
const Ids = v.pipe(
  v.array(v.pipe(v.number("expected a token id"), v.integer("expected a whole number"))),
  v.nonEmpty("must not be empty"),
);

/** One text or many, each a string or token ids. The first element decides, so that errors name the odd one out. */
export const inputSchema = ({
  inputs,
}: Limits): v.GenericSchema<unknown, (string | readonly number[])[]> =>
  v.lazy((input) => {
    if (typeof input === "string") {
      return v.pipe(
        Text,
        v.transform((text) => [text]),
      );
    }
    if (!Array.isArray(input))
      return v.never("expected a string, an array of strings or token ids");
    if (typeof input[0] === "number") {
      return v.pipe(
        Ids,
        v.transform((ids) => [ids]),
      );
    }
    return v.pipe(
      v.array<typeof Text | typeof Ids>(Array.isArray(input[0]) ? Ids : Text),
      v.nonEmpty("must not be empty"),
      v.maxLength(inputs, (issue) => `expected at most ${inputs}, found ${issue.received}`),
    );
  });

/** Token ids that the model will take, of texts or token ids that a client sent as `param`. */
export function tokenize(
  model: SentenceModel,
  inputs: readonly (string | readonly number[])[],
  param: string,
  options: PromptOptions = {},
): TokenIds[] {
  const {
    maxLength,
    encoder: { vocabSize },
  } = model.config;
  return inputs.map((input, i) => {
    const fail = (message: string): never => {
      const name = inputs.length === 1 ? param : `${param}[${i}]`;
      throw new ApiError(400, `${name}: ${message}`, { param: name });
    };
    if (typeof input === "string") {
      const encoding = model.tokenizer.encode(promptOf(model.config, options) + input, maxLength);
      return encoding.truncated
        ? fail(`longer than the model's ${maxLength} tokens`)
        : encoding.ids;
    }
    if (input.length > maxLength) fail(`longer than the model's ${maxLength} tokens`);
    const alien = input.find((id) => id < 0 || id >= vocabSize);
    if (alien !== undefined) fail(`token id ${alien} is outside the vocabulary of ${vocabSize}`);
    return input;
  });
}

/** Vectors of token ids, each checked: JSON would turn a NaN into null. */
export async function embed(
  model: SentenceModel,
  tokenIds: readonly TokenIds[],
  options: EncodeOptions = {},
): Promise<Float32Array[]> {
  const vectors = await model.encode(tokenIds, options);
  if (vectors.every((vector) => vector.every(Number.isFinite))) return vectors;
  throw new Error("internal: an embedding is not finite");
}
