import { FormatError } from "../errors.ts";

/** Limits of Cloudflare's Vectorize (https://developers.cloudflare.com/vectorize/platform/limits/), in bytes. */
const LONGEST_ID = 64;
const MOST_METADATA = 10 * 1024;

/**
 * A line of the NDJSON that `wrangler vectorize insert` takes.
 *
 *     vectorizeLine("7", Float32Array.of(1, 0), { text: "a cat" }); // {"id":"7","values":[1,0],"metadata":{"text":"a cat"}}
 *
 * @throws FormatError for an id or metadata past the limits of Vectorize
 */
export function vectorizeLine(
  id: string,
  values: Float32Array,
  metadata: Readonly<Record<string, unknown>>,
): string {
  const bytes = (text: string): number => new TextEncoder().encode(text).length;
  const json = JSON.stringify(metadata);
  if (bytes(id) > LONGEST_ID) {
    throw new FormatError(
      `id ${JSON.stringify(id)}: expected at most the ${LONGEST_ID} bytes that Vectorize takes, found ${bytes(id)}; choose a shorter one`,
    );
  }
  if (bytes(json) > MOST_METADATA) {
    throw new FormatError(
      `id ${JSON.stringify(id)}: expected at most the ${MOST_METADATA} bytes of metadata that Vectorize takes, found ${bytes(json)}; remove fields or shorten the text`,
    );
  }
  return `{"id":${JSON.stringify(id)},"values":${JSON.stringify(Array.from(values))},"metadata":${json}}\n`;
}
