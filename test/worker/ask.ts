import { expect } from "vitest";
import type { App } from "../../worker/app.ts";

/** Sends a body to a route of an app: JSON, or a text as it is. */
export function post(app: App, path: string, body: unknown): Promise<Response> {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const headers = { "content-type": "application/json" };
  return Promise.resolve(app.request(path, { method: "POST", headers, body: text }));
}

/** An answer that is an error in OpenAI's shape. */
export async function errorOf(response: Response): Promise<object> {
  const { error } = (await response.json()) as { error: Record<string, unknown> };
  expect(Object.keys(error).toSorted()).toEqual(["code", "message", "param", "type"]);
  expect(error["message"]).toMatch(/./);
  return { status: response.status, ...error };
}
