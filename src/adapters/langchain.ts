import type { EncodeOptions, SentenceModel } from "../simcse.ts";

/** What LangChain.js calls `EmbeddingsInterface`. */
export interface LangChainEmbeddings {
  embedQuery(document: string): Promise<number[]>;
  embedDocuments(documents: string[]): Promise<number[][]>;
}

/** Options of `encode`, and what to put before queries and documents where a model tells them apart. */
export type LangChainOptions = Pick<EncodeOptions, "batchSize" | "maxLength" | "dimensions"> & {
  readonly queryPrompt?: string;
  readonly documentPrompt?: string;
};

/**
 * A model as LangChain.js wants embeddings; nothing of LangChain is imported.
 *
 *     const store = await MemoryVectorStore.fromTexts(texts, metadata, toLangChain(model));
 */
export function toLangChain(
  model: Pick<SentenceModel, "encode">,
  { queryPrompt, documentPrompt, ...options }: LangChainOptions = {},
): LangChainEmbeddings {
  const embed = async (
    texts: readonly string[],
    prompt: string | undefined,
  ): Promise<number[][]> => {
    const rows = await model.encode(texts, { ...options, ...(prompt !== undefined && { prompt }) });
    return rows.map((row) => Array.from(row));
  };
  return {
    embedQuery: async (document) => (await embed([document], queryPrompt))[0]!,
    embedDocuments: (documents) => embed(documents, documentPrompt),
  };
}
