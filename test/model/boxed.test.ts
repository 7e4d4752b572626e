import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { evaluatePairs } from "../../src/evaluate/measures.ts";
import { parsePairs } from "../../src/evaluate/pairs.ts";
import { SimCSE } from "../../src/node/index.ts";

const DEV = "../shared/data/sts/stsb/dev.tsv";

describe.each([
  { name: "simcse-edge-nano", dev: 81.31, far: 0.1 },
  { name: "simcse-edge-mini", dev: 83.04, far: 0.2 },
])("$name, one of our own", ({ name, dev, far: most }) => {
  it("loads by its name and knows what is near", async () => {
    await using model = await SimCSE.load(name, { threads: 1 });
    expect(model.dimension).toBe(192);
    const [near, far] = await Promise.all([
      model.similarity("A man is playing a guitar.", "Someone plays the guitar."),
      model.similarity("A man is playing a guitar.", "The committee rejected the budget."),
    ]);
    expect(near).toBeGreaterThan(0.6);
    expect(far).toBeLessThan(most);
  });

  it.skipIf(!existsSync(DEV))(
    `has on the development set of STS-B the score of its card (else skipped: needs ${DEV})`,
    async () => {
      await using model = await SimCSE.load(name, { threads: 1 });
      const { pairs } = parsePairs(readFileSync(DEV, "utf8"), DEV);
      const encode = async (texts: readonly string[]) => [...(await model.encode([...texts]))];
      const { spearman } = await evaluatePairs(pairs, encode, { samples: 1 });
      expect(spearman).toBeCloseTo(dev, 1);
    },
  );
});
