import { globSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";

const sources = globSync("{src,worker}/**/*.ts");

it("node: is imported only under src/node and src/cli, so the rest runs in a Worker", () => {
  const offenders = sources.filter(
    (file) =>
      !/^src\/(node|cli)\//.test(file) &&
      /from "node:|import\("node:/.test(readFileSync(file, "utf8")),
  );
  expect(sources.length).toBeGreaterThan(20);
  expect(offenders).toEqual([]);
});

it("src/node and src/cli are imported only from themselves", () => {
  const offenders = sources.filter(
    (file) =>
      !/^src\/(node|cli)\//.test(file) &&
      /from "[./]*\/(node|cli)\//.test(readFileSync(file, "utf8")),
  );
  expect(offenders).toEqual([]);
});
