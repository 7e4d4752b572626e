/** Holds an answer against what `worker/public/openapi.json` says of it. */
import { Ajv2020 } from "ajv/dist/2020.js";
import { expect } from "vitest";
import type { App } from "../../worker/app.ts";
import { answerOf, description } from "./description.ts";

const ajv = new Ajv2020({ strict: true, allowUnionTypes: true });
ajv.addVocabulary(["components"]);
ajv.addSchema({ $id: "openapi", components: description.components }, undefined, true, false);

/** Whether a value is what a schema of the description says; if not, why. */
export function faults({ $ref, ...rest }: { $ref?: string }, value: unknown): unknown {
  expect(rest).toEqual({});
  const valid = ajv.getSchema(`openapi${$ref}`)!;
  return valid(value) ? null : valid.errors;
}

/** Sends a request, holds the answer against the description of its path, and gives its status. */
export async function checkAnswer(on: App, path: string, request: Request): Promise<number> {
  const operation = description.paths[path]![request.method.toLowerCase()]!;
  const response = await on.fetch(request);
  const documented = answerOf(operation, response.status);
  expect(documented, `${path} ${response.status}`).toBeDefined();
  const { content = {}, headers = {} } = documented!;
  for (const name of Object.keys(headers)) {
    expect(response.headers.get(name), `${path} ${response.status}: ${name}`).toMatch(/^\d+$/);
  }
  const type = response.headers.get("content-type")?.split(";")[0];
  expect(Object.keys(content)).toEqual(type === undefined ? [] : [type]);
  const body = await response.text();
  if (type === undefined) expect(body).toBe("");
  if (type === "application/json") {
    expect(faults(content[type]!.schema, JSON.parse(body))).toBeNull();
  }
  return response.status;
}
