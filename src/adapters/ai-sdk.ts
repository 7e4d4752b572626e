import type { EncodeOptions, SentenceModel } from "../simcse.ts";

/** What the AI SDK calls `EmbeddingModelV3`. */
export interface AiSdkEmbeddingModel {
  readonly specificationVersion: "v3";
  readonly provider: string;
  readonly modelId: string;
  readonly maxEmbeddingsPerCall: number;
  readonly supportsParallelCalls: boolean;
  doEmbed(options: { values: string[]; abortSignal?: AbortSignal | undefined }): Promise<{
    embeddings: number[][];
    usage: { tokens: number };
    warnings: [];
  }>;
}

/** Options of `encode`, and the name of the model in logs. */
export type AiSdkOptions = Pick<
  EncodeOptions,
  "batchSize" | "maxLength" | "dimensions" | "prompt" | "promptName"
> & { readonly modelId?: string };

/**
 * A model as the AI SDK wants embeddings; nothing of the AI SDK is imported.
 *
 *     const { embeddings } = await embedMany({ model: toAiSdk(model), values: ["a cat", "a dog"] });
 */
export function toAiSdk(
  model: Pick<SentenceModel, "encode" | "tokenize">,
  { modelId = "simcse", ...options }: AiSdkOptions = {},
): AiSdkEmbeddingModel {
  return {
    specificationVersion: "v3",
    provider: "simcse-edge",
    modelId,
    maxEmbeddingsPerCall: Infinity,
    supportsParallelCalls: true,
    async doEmbed({ values, abortSignal }) {
      const ids = values.map((value) => model.tokenize(value, options));
      const rows = await model.encode(ids, {
        ...options,
        ...(abortSignal && { signal: abortSignal }),
      });
      return {
        embeddings: rows.map((row) => Array.from(row)),
        usage: { tokens: ids.reduce((sum, { length }) => sum + length, 0) },
        warnings: [],
      };
    },
  };
}
