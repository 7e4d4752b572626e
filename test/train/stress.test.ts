import { expect, it } from "vitest";
import { stress } from "./stress.ts";

it("runs killed ten times and more, at random moments, end in the bits of runs that nobody killed", async () => {
  const seed = Date.now() % 2 ** 31;
  console.log(`npm run stress -- --kills 10 --seed ${seed}`);
  const { kills, early } = await stress(10, seed, () => {});
  expect(kills).toBeGreaterThanOrEqual(10);
  expect(early).toBeLessThan(kills);
}, 600_000);
