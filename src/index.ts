/** What every entry of the package has: the API without folders, threads and other things of one runtime. */
export { toAiSdk, type AiSdkEmbeddingModel } from "./adapters/ai-sdk.ts";
export { toLangChain, type LangChainEmbeddings } from "./adapters/langchain.ts";
export { FileError, FormatError, HubError } from "./errors.ts";
export type { Part, Source } from "./files/source.ts";
export type { EncoderConfig, InferencePooling, ModelConfig, Module } from "./model/config.ts";
export {
  calibrate,
  type Precision,
  PRECISIONS,
  quantizeEmbeddings,
  type Ranges,
  truncate,
  type VectorTypes,
} from "./quantize/embeddings.ts";
export {
  type Duplicate,
  FlatIndex,
  type Item,
  type ItemId,
  type Metadata,
  type NewItem,
  type SearchOptions,
  type SearchResult,
} from "./search/flat-index.ts";
export { INDEX_PRECISIONS, type IndexPrecision } from "./search/rows.ts";
export {
  type AddOptions,
  type MinedPair,
  type MineOptions,
  type PositivePair,
  type QueryOptions,
  TextIndex,
} from "./search/text-index.ts";
export {
  type BuildOptions,
  type EncodeOptions,
  type Encoder,
  type ModelOptions,
  SentenceModel,
  type StreamOptions,
  type Text,
  type TokenIds,
  type TokenizeOptions,
} from "./simcse.ts";
export { Tokenizer } from "./tokenizer/tokenizer.ts";
