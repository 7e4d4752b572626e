import { RANKING_DEPTH, type RetrievalScore, scoreRankings } from "../evaluate/retrieval.ts";
import { compileKernels } from "../node/binaries.ts";
import type { Embedder } from "../node/embedders.ts";
import type { RetrievalData } from "../node/retrieval-data.ts";
import { FlatIndex } from "../search/flat-index.ts";
import { table } from "./terminal.ts";

/**
 * Ranks the documents by cosine for each query, over a float32 index. A document with the id of the query is not ranked, as
 * in BEIR: in some of its sets the queries are documents.
 */
export async function evaluateRetrieval(
  { documents, queries }: RetrievalData,
  embedder: Pick<Embedder, "encode">,
): Promise<RetrievalScore> {
  const vectors = (await embedder.encode([...documents.values()])).map(onSphere);
  const index = new FlatIndex(await compileKernels("edge"), vectors[0]!.length);
  index.add(
    [...documents.keys()].map((id) => ({ id, text: "" })),
    vectors,
  );
  const found = await embedder.encode([...queries.values()].map(({ text }) => text));
  return scoreRankings(
    [...queries].map(([query, { judgements }], i) => {
      const filter = ({ id }: { readonly id: unknown }): boolean => id !== query;
      const results = index.search(onSphere(found[i]!), { topK: RANKING_DEPTH, filter });
      return { ranking: results.map(({ id }) => String(id)), judgements };
    }),
  );
}

/** The row over its length; a zero row stays zero. */
function onSphere(row: Float32Array): Float32Array {
  const length = Math.hypot(...row) || 1;
  return row.map((value) => value / length);
}

export function retrievalTable(
  names: readonly string[],
  scores: readonly RetrievalScore[],
): string {
  return table([
    ["model", "nDCG@10", "MRR@10", "recall@1", "@5", "@10", "@100", "queries"],
    ...scores.map((score, i) => [
      names[i]!,
      ...[
        score.ndcg10,
        score.mrr10,
        score.recall1,
        score.recall5,
        score.recall10,
        score.recall100,
      ].map((value) => value.toFixed(2)),
      String(score.queries),
    ]),
  ]);
}
