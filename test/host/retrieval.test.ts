import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { evaluateRetrieval } from "../../src/cli/retrieval.ts";
import { scoreRankings } from "../../src/evaluate/retrieval.ts";
import { readRetrieval } from "../../src/node/retrieval-data.ts";

describe("scoreRankings", () => {
  it("has the figures computed by hand", () => {
    const score = scoreRankings([
      // Gains 0, 2, 0, 1 of the ideal 2, 1, 1.
      {
        ranking: ["x", "a", "y", "b"],
        judgements: new Map([
          ["a", 2],
          ["b", 1],
          ["c", 1],
          ["x", 0],
        ]),
      },
      // Relevant, but at rank 11.
      {
        ranking: [...Array.from("0123456789"), "a"],
        judgements: new Map([["a", 1]]),
      },
      { ranking: ["a"], judgements: new Map([["a", 0]]) },
    ]);
    const gained = 2 / Math.log2(3) + 1 / Math.log2(5);
    const ideal = 2 + 1 / Math.log2(3) + 1 / 2;
    expect(score.ndcg10).toBeCloseTo((100 * gained) / ideal / 2, 10);
    expect(score.mrr10).toBeCloseTo(25, 10);
    expect(score.recall1).toBe(0);
    expect(score.recall5).toBeCloseTo(100 / 3, 10);
    expect(score.recall10).toBeCloseTo(100 / 3, 10);
    expect(score.recall100).toBeCloseTo((100 * (2 / 3 + 1)) / 2, 10);
    expect(score.queries).toBe(2);
  });

  it("refuses queries without a relevant document", () => {
    expect(() => scoreRankings([])).toThrow(
      new RangeError("retrieval needs a query with a relevant document"),
    );
  });
});

describe("a folder of BEIR", () => {
  let folder: string;
  const write = (file: string, ...rows: string[]): void =>
    writeFileSync(join(folder, file), `${rows.join("\n")}\n`);

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "simcse-retrieval-"));
    mkdirSync(join(folder, "qrels"));
    write(
      "corpus.jsonl",
      '{"_id": "1", "title": "Title", "text": "east"}',
      '{"_id": "2", "title": "", "text": "north"}',
      '{"_id": "q", "text": "between"}',
    );
    write(
      "queries.jsonl",
      '{"_id": "q", "text": "between"}',
      '{"_id": "unjudged", "text": "nothing"}',
    );
    write("qrels/test.tsv", "query-id\tcorpus-id\tscore", "q\t2\t1");
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it("is ranked by cosine, without the document that is the query", async () => {
    const data = await readRetrieval(folder, "test");
    const directions: Record<string, Float32Array> = {
      "Title east": Float32Array.of(10, 0),
      north: Float32Array.of(0, 0.1),
      between: Float32Array.of(3, 4),
    };
    const encode = async (texts: readonly string[]): Promise<Float32Array[]> =>
      texts.map((text) => directions[text]!);
    expect(await evaluateRetrieval(data, { encode })).toEqual({
      ndcg10: 100,
      mrr10: 100,
      recall1: 100,
      recall5: 100,
      recall10: 100,
      recall100: 100,
      queries: 1,
    });
  });

  it.each([
    ["corpus.jsonl", ["{"], "corpus.jsonl:1: expected a JSON object; "],
    [
      "queries.jsonl",
      ["", '{"_id": 7, "text": ""}'],
      'queries.jsonl:2: expected an object with strings "_id" and "text"',
    ],
    [
      "corpus.jsonl",
      ['{"_id":"a","text":""}', '{"_id":"a","text":""}'],
      'corpus.jsonl:2: the _id "a" is there twice',
    ],
    [
      "qrels/test.tsv",
      ["query-id\tcorpus-id\tscore", "q\t2"],
      "qrels/test.tsv:2: expected query id, document id and a whole number",
    ],
    [
      "qrels/test.tsv",
      ["query-id\tcorpus-id\tscore", "p\t2\t1"],
      'qrels/test.tsv:2: expected a query of queries.jsonl, found "p"',
    ],
    [
      "qrels/test.tsv",
      ["query-id\tcorpus-id\tscore", "q\t9\t1"],
      'qrels/test.tsv:2: expected a document of corpus.jsonl, found "9"',
    ],
    [
      "qrels/test.tsv",
      ["query-id\tcorpus-id\tscore", "q\t2\t0"],
      "qrels/test.tsv: expected judgements, found no document",
    ],
  ])("with a broken %s is refused", async (file, rows, message) => {
    write(file, ...rows);
    await expect(readRetrieval(folder, "test")).rejects.toThrow(join(folder, message));
  });
});
