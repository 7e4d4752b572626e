/** Retrieval: how far up a ranking of documents the relevant ones are, as BEIR measures it (Thakur et al. 2021, https://arxiv.org/abs/2104.08663). */

/** Document ids and how relevant each is to a query; 0 is judged and not relevant. */
export type Judgements = ReadonlyMap<string, number>;

/** Means over queries, times 100. */
export interface RetrievalScore {
  readonly ndcg10: number;
  readonly mrr10: number;
  readonly recall1: number;
  readonly recall5: number;
  readonly recall10: number;
  readonly recall100: number;
  /** Queries with a relevant document: the others are left out. */
  readonly queries: number;
}

/** How many documents of a ranking count. */
export const RANKING_DEPTH = 100;

/**
 * Scores rankings, best document first, against the judgements of their queries. Gains are linear, as trec_eval has them.
 * @throws RangeError where no query has a relevant document
 */
export function scoreRankings(
  queries: Iterable<{ readonly ranking: readonly string[]; readonly judgements: Judgements }>,
): RetrievalScore {
  const sum = { ndcg10: 0, mrr10: 0, recall1: 0, recall5: 0, recall10: 0, recall100: 0 };
  let count = 0;
  for (const { ranking, judgements } of queries) {
    const ideal = [...judgements.values()].filter((grade) => grade > 0).toSorted((a, b) => b - a);
    if (ideal.length === 0) continue;
    count++;
    const gains = ranking.map((id) => Math.max(0, judgements.get(id) ?? 0));
    const recall = (k: number): number =>
      gains.slice(0, k).filter((gain) => gain > 0).length / ideal.length;
    const first = gains.slice(0, 10).findIndex((gain) => gain > 0);
    sum.ndcg10 += discounted(gains.slice(0, 10)) / discounted(ideal.slice(0, 10));
    sum.mrr10 += first < 0 ? 0 : 1 / (first + 1);
    sum.recall1 += recall(1);
    sum.recall5 += recall(5);
    sum.recall10 += recall(10);
    sum.recall100 += recall(100);
  }
  if (count === 0) throw new RangeError("retrieval needs a query with a relevant document");
  const mean = (total: number): number => (100 * total) / count;
  return {
    ndcg10: mean(sum.ndcg10),
    mrr10: mean(sum.mrr10),
    recall1: mean(sum.recall1),
    recall5: mean(sum.recall5),
    recall10: mean(sum.recall10),
    recall100: mean(sum.recall100),
    queries: count,
  };
}

function discounted(gains: readonly number[]): number {
  return gains.reduce((sum, gain, i) => sum + gain / Math.log2(i + 2), 0);
}
