/**
 * Watches all tests of the Worker: an answer whose status `worker/public/openapi.json` does not have for its route fails the
 * file. Answers of the app itself are seen, and those that come over HTTP by `fetch`.
 */
import { afterAll, expect, vi } from "vitest";
import { operationOf } from "./description.ts";

const undocumented = new Set<string>();

/** Of no route: a client that has left, and a host name that `simcse serve` does not have. */
const ELSEWHERE = [421, 499];

function note(method: string, url: string, status: number): void {
  const { pathname } = new URL(url);
  const operation = operationOf(method, pathname);
  if (!operation || operation.responses[status] || ELSEWHERE.includes(status)) return;
  undocumented.add(`${method} ${pathname}: ${status}`);
}

vi.mock(import("../../worker/app.ts"), async (original) => {
  const { createApp, ...others } = await original();
  return {
    ...others,
    createApp: (...options) => {
      const app = createApp(...options);
      const { fetch } = app;
      app.fetch = async (request, ...more) => {
        const response = await fetch(request, ...more);
        note(request.method, request.url, response.status);
        return response;
      };
      return app;
    },
  };
});

if (expect.getState().testPath?.includes("/test/worker/")) {
  const { fetch } = globalThis;
  globalThis.fetch = async (input, init) => {
    const response = await fetch(input, init);
    const { url, method } =
      input instanceof Request ? input : { url: String(input), method: "GET" };
    note(init?.method ?? method, url, response.status);
    return response;
  };
  afterAll(() => {
    expect([...undocumented], "statuses that openapi.json does not have").toEqual([]);
  });
}
