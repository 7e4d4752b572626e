/** JSON bodies: read within bounds, and checked field by field. */
import type { Context } from "hono";
import * as v from "valibot";
import type { Api } from "./app.ts";
import { ApiError } from "./errors.ts";
import type { Limits, Load } from "./limits.ts";

/**
 * The body of a request as a schema describes it.
 * @throws ApiError for a body that is too long, too slow or no JSON, or a field that is not what the schema says
 */
export async function readJson<S extends v.GenericSchema>(
  c: Context,
  schema: S,
  { limits, load }: Api,
): Promise<v.InferOutput<S>> {
  const type = c.req.header("content-type") ?? "";
  if (!/^application\/json *(;|$)/i.test(type) || /charset=(?!"?utf-?8)/i.test(type)) {
    const message = `content-type: expected application/json, found ${type || "none"}`;
    throw new ApiError(415, message, { code: "unsupported_content_type" });
  }
  const json = await withBody(c.req.raw, limits, load, parseJson);
  const { success, issues, output } = v.safeParse(schema, json, { abortEarly: true });
  if (success) return output;
  const [{ message, path = [], type: kind }] = issues;
  const param = path
    .map(({ key }, i) =>
      typeof key === "number" ? `[${key}]` : `${i > 0 ? "." : ""}${String(key)}`,
    )
    .join("");
  throw new ApiError(400, param ? `${param}: ${message}` : message, {
    param: param || null,
    empty: kind === "non_empty",
  });
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new ApiError(400, "the body is not JSON in UTF-8");
  }
}

/**
 * What `use` makes of a body. It is given up as soon as it has more bytes or takes more time than it may, whatever length was
 * announced.
 */
async function withBody<T>(
  request: Request,
  { bodyBytes, bodySeconds }: Limits,
  load: Load,
  use: (bytes: Uint8Array) => T,
): Promise<T> {
  const tooLong = new ApiError(413, `the body is longer than ${bodyBytes} bytes`);
  if (Number(request.headers.get("content-length")) > bodyBytes) throw tooLong;
  const reader = request.body?.getReader();
  const chunks: Uint8Array[] = [];
  let length = 0;
  let late: ReturnType<typeof setTimeout> | undefined;
  const deadline = new Promise<never>((_, reject) => {
    const tooSlow = new ApiError(408, `the body did not arrive within ${bodySeconds} seconds`);
    late = setTimeout(() => reject(tooSlow), 1000 * bodySeconds);
  });
  try {
    for (;;) {
      const part = await Promise.race([reader?.read(), deadline]);
      if (!part || part.done) break;
      load.hold(part.value.length);
      chunks.push(part.value);
      length += part.value.length;
      if (length > bodyBytes) throw tooLong;
    }
    const body = new Uint8Array(length);
    let offset = 0;
    for (const chunk of chunks) {
      body.set(chunk, offset);
      offset += chunk.length;
    }
    return use(body);
  } catch (error) {
    await reader?.cancel().catch(() => undefined);
    throw error;
  } finally {
    clearTimeout(late);
    load.release(length);
  }
}
