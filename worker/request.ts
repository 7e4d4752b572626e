/** JSON bodies: read within bounds, and checked field by field. */
import type { Context } from "hono";
import * as v from "valibot";
import { ApiError } from "./errors.ts";
import type { Limits } from "./limits.ts";

/**
 * The body of a request as a schema describes it.
 * @throws ApiError for a body that is too long or no JSON, or a field that is not what the schema says
 */
export async function readJson<S extends v.GenericSchema>(
  c: Context,
  schema: S,
  limits: Limits,
): Promise<v.InferOutput<S>> {
  const bytes = await readBody(c.req.raw, limits.bodyBytes);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new ApiError(400, "the body is not JSON");
  }
  const { success, issues, output } = v.safeParse(schema, json, { abortEarly: true });
  if (success) return output;
  const [{ message, path = [] }] = issues;
  const param = path.map(({ key }) => (typeof key === "number" ? `[${key}]` : key)).join("");
  throw new ApiError(400, param ? `${param}: ${message}` : message, { param: param || null });
}

/** Bytes of a body, given up as soon as they are more than `most`, whatever length was announced. */
async function readBody(request: Request, most: number): Promise<Uint8Array> {
  const tooLong = new ApiError(413, `the body is longer than ${most} bytes`);
  if (Number(request.headers.get("content-length")) > most) throw tooLong;
  const chunks: Uint8Array[] = [];
  let length = 0;
  const reader = request.body?.getReader();
  for (let part = await reader?.read(); part && !part.done; part = await reader!.read()) {
    length += part.value.length;
    if (length > most) {
      await reader!.cancel();
      throw tooLong;
    }
    chunks.push(part.value);
  }
  const body = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    body.set(chunk, offset);
    offset += chunk.length;
  }
  return body;
}
