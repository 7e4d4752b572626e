import { sha256HexOfParts } from "../../src/files/checksum.ts";
import type { SentenceModel } from "../../src/simcse.ts";
import { embed } from "../embed.ts";
import type { VectorSpace } from "./store.ts";

/** Tokens of the text whose vector tells models apart. */
const PROBE_TOKENS = 16;
const spaces = new WeakMap<SentenceModel, Promise<VectorSpace>>();

/**
 * The space of a model's vectors. Its name is a digest of the configuration and of what the weights make of a text, so that a
 * model has the same one wherever it is loaded from, and another model another.
 */
export function spaceOf(model: SentenceModel): Promise<VectorSpace> {
  const space = spaces.get(model) ?? findSpace(model);
  spaces.set(model, space);
  space.catch(() => spaces.delete(model));
  return space;
}

async function findSpace(model: SentenceModel): Promise<VectorSpace> {
  const { config, dimension } = model;
  const { vocabSize } = config.encoder;
  const probe = Array.from({ length: PROBE_TOKENS }, (_, i) =>
    Math.floor((i * vocabSize) / PROBE_TOKENS),
  );
  const [vector] = await embed(model, [probe], {});
  const json = new TextEncoder().encode(JSON.stringify(config));
  const digest = await sha256HexOfParts([json, new Uint8Array(vector!.slice().buffer)]);
  return { name: digest.slice(0, 16), dimension };
}
