import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compileKernels } from "../../src/node/binaries.ts";
import { saveIndex, SimCSE } from "../../src/node/index.ts";
import { FlatIndex } from "../../src/search/flat-index.ts";
import { INDEX_PRECISIONS } from "../../src/search/rows.ts";
import { SENTENCES, writeTinyModel } from "../worker/tiny-model.ts";

const directory = mkdtempSync(join(tmpdir(), "simcse-text-index-"));
afterAll(() => rmSync(directory, { recursive: true }));

describe("TextIndex", () => {
  let model: SimCSE;
  beforeAll(async () => {
    await writeTinyModel(join(directory, "model"), "int8");
    model = await SimCSE.load(join(directory, "model"), { threads: 1 });
  });
  afterAll(() => model.close());

  it.each(INDEX_PRECISIONS)(
    "%s: finds a text by itself, one query or several",
    async (precision) => {
      const index = await model.buildIndex(SENTENCES, { precision });
      const [best] = await index.search(SENTENCES[4]!, { topK: 1 });
      expect(best).toMatchObject({ id: 4, text: SENTENCES[4] });
      expect(best!.score).toBeCloseTo(1, 2);
      const both = await index.search([SENTENCES[4]!, SENTENCES[0]!], { topK: 2 });
      expect(both.map(([first]) => first!.id)).toEqual([4, 0]);
      expect(both[0]).toEqual(await index.search(SENTENCES[4]!, { topK: 2 }));
      expect(await index.search([])).toEqual([]);
      const options = { topK: 9, threshold: -1, maxScore: 0.9, prompt: "a dog: " };
      const [vector] = await model.encode([`a dog: ${SENTENCES[4]}`]);
      expect(await index.search(SENTENCES[4]!, options)).toEqual(
        index.index.search(vector!, options),
      );
    },
  );

  it("adds and removes texts with ids and metadata, in fewer dimensions", async () => {
    const index = await model.buildIndex([], { dimensions: 16 });
    const ids = await index.add([{ id: "cat", text: "a cat", metadata: { page: 3 } }, "a dog"]);
    expect(ids).toEqual(["cat", 0]);
    expect(index.index.dimension).toBe(16);
    expect(await index.search("a cat", { topK: 1 })).toMatchObject([
      { id: "cat", metadata: { page: 3 } },
    ]);
    expect(index.remove(["cat"])).toBe(1);
    expect(index.items).toEqual([{ id: 0, text: "a dog" }]);
  });

  it("is saved as a whole file and loaded again", async () => {
    const file = join(directory, "my.index");
    const index = await model.buildIndex(SENTENCES, { precision: "int8" });
    await saveIndex(index, file);
    const again = await model.loadIndex(file);
    expect(await again.search("a cat", { topK: 7 })).toEqual(
      await index.search("a cat", { topK: 7 }),
    );
    writeFileSync(file, readFileSync(file).subarray(1));
    await expect(model.loadIndex(file)).rejects.toThrow(file);
    await expect(model.loadIndex(`${file}.absent`)).rejects.toThrow(
      "does not exist; expected an index",
    );
  });

  it("mines negatives that are near, but no answers and farther than the positive", async () => {
    const texts = [...SENTENCES];
    const index = await model.buildIndex(texts);
    const pair = { anchor: SENTENCES[4]!, positive: SENTENCES[5]! };
    const positiveScore = await model.similarity(pair.anchor, pair.positive);
    const [mined] = await index.mine([pair], { negatives: 3, margin: 0.001 });
    const scores = await model.similarity(pair.anchor, mined!.negatives);
    expect(mined).toMatchObject(pair);
    expect(mined!.negatives).not.toContain(pair.anchor);
    expect(mined!.negatives).not.toContain(pair.positive);
    for (const score of scores) expect(score).toBeLessThanOrEqual(positiveScore - 0.001 + 1e-6);
    const [all] = await index.mine([pair], { negatives: 9, margin: -2 });
    expect(all!.negatives).toHaveLength(SENTENCES.length - 2);
    const [skipped] = await index.mine([pair], { negatives: 2, margin: -2, skip: 1 });
    expect(skipped!.negatives).toEqual(all!.negatives.slice(1, 3));
    const [first, second] = await index.mine([pair, { ...pair, positive: SENTENCES[0]! }], {
      negatives: 9,
      margin: -2,
    });
    for (const { negatives } of [first!, second!]) {
      expect(negatives).toHaveLength(SENTENCES.length - 3);
    }
  });

  it("refuses an index of larger vectors than the model's", async () => {
    const bytes = await new FlatIndex(await compileKernels("edge"), 128).serialize();
    await expect(model.openIndex(bytes)).rejects.toThrow(
      "an index of 128 dimensions does not belong to a model of 64; build it again",
    );
  });
});
