/** `worker/public/openapi.json`, for tests that hold answers against it. */
import { readFileSync } from "node:fs";

export interface Content {
  readonly content?: Readonly<Record<string, { readonly schema: object }>>;
  readonly headers?: Readonly<Record<string, object>>;
}
export interface Operation {
  readonly requestBody?: Content;
  readonly responses: Readonly<Record<string, { readonly $ref: string } | Content>>;
}
interface Description {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: {
    readonly schemas: object;
    readonly responses: Readonly<Record<string, Content>>;
  };
}

export const text: string = readFileSync("worker/public/openapi.json", "utf8");
export const description = JSON.parse(text) as Description;

/** Paths with a part of any name come last. */
const PATHS = Object.keys(description.paths)
  .toSorted((a, b) => Number(a.includes("{")) - Number(b.includes("{")))
  .map((path) => [path, new RegExp(`^${path.replaceAll(/\{\w+\}/g, ".+")}$`)] as const);

/** What is described of a method and a path that was asked for, such as `/documents/7`; HEAD is a GET without its body. */
export function operationOf(method: string, asked: string): Operation | undefined {
  const [path] = PATHS.find(([, pattern]) => pattern.test(asked)) ?? [];
  const name = method.toLowerCase();
  return path === undefined ? undefined : description.paths[path]![name === "head" ? "get" : name];
}

/** What is described of a status, which components may have. */
export function answerOf({ responses }: Operation, status: number): Content | undefined {
  const answer = responses[status];
  if (answer === undefined || !("$ref" in answer)) return answer;
  return description.components.responses[answer.$ref.split("/").at(-1)!];
}
