import type { TestContext } from "vitest";

/** Skips a test, and says why, where what it needs of the machine is not here. */
export function needs(test: TestContext, here: unknown, what: string): asserts here {
  if (here) return;
  console.log(`skipped: needs ${what}`);
  test.skip();
}
