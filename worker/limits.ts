/** How much a request, and all requests at a time, may ask for. */
import { turn } from "../src/runtime/turn.ts";
import { ApiError } from "./errors.ts";
import type { ReadVariable } from "./variables.ts";

export interface Limits {
  /** Longest body, in bytes. */
  readonly bodyBytes: number;
  /** Seconds in which a body must have arrived. */
  readonly bodySeconds: number;
  /** Most texts of a request. */
  readonly inputs: number;
  /** Most tokens of all texts of a request; of each, it is the model's own maximum. */
  readonly tokens: number;
  /** Most results of a search. */
  readonly results: number;
  /** Longest text of a document, in bytes of UTF-8. */
  readonly textBytes: number;
  /** Most metadata of a document, in bytes of JSON. */
  readonly metadataBytes: number;
  /** Most memory for the index of documents, in bytes; it bounds their number. */
  readonly indexBytes: number;
  /** Most requests that are worked on or wait at a time. */
  readonly concurrent: number;
  /** Most bytes of all bodies that are held at a time. */
  readonly concurrentBytes: number;
}

export const DEFAULT_LIMITS: Limits = {
  bodyBytes: 2_000_000,
  bodySeconds: 30,
  inputs: 2048,
  tokens: 65_536,
  results: 50,
  textBytes: 65_536,
  metadataBytes: 10_240,
  indexBytes: 40_000_000,
  concurrent: 128,
  concurrentBytes: 8_000_000,
};

/** Variables that set limits: the name of each, and of the limit. */
const VARIABLES: Readonly<Record<string, keyof Limits>> = {
  MAX_BODY_BYTES: "bodyBytes",
  MAX_BODY_SECONDS: "bodySeconds",
  MAX_INPUTS: "inputs",
  MAX_TOKENS: "tokens",
  MAX_RESULTS: "results",
  MAX_TEXT_BYTES: "textBytes",
  MAX_METADATA_BYTES: "metadataBytes",
  MAX_INDEX_BYTES: "indexBytes",
  MAX_CONCURRENT: "concurrent",
  MAX_CONCURRENT_BYTES: "concurrentBytes",
};

/**
 * The limits that an environment sets.
 * @throws RangeError naming a variable that is no whole number from 1
 */
export function limitsOf(read: ReadVariable): Limits {
  const limits = { ...DEFAULT_LIMITS };
  for (const [variable, limit] of Object.entries(VARIABLES)) {
    const text = read(variable);
    if (text === undefined) continue;
    const value = Number(text);
    if (!(Number.isSafeInteger(value) && value >= 1)) {
      throw new RangeError(`${variable}: expected a whole number from 1, found ${text}`);
    }
    limits[limit] = value;
  }
  return limits;
}

/** Seconds a client is asked to wait when there is too much to do. */
const OVERLOAD_RETRY_SECONDS = 1;

/** What is being worked on at a time, which is what memory has to hold. */
export class Load {
  requests = 0;
  #bytes = 0;
  readonly #limits: Limits;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  /**
   * Runs one more request, or refuses it. First those that have come meanwhile are let in and counted: a runtime keeps them back,
   * however many, while one is worked on.
   */
  async admit<T>(work: () => Promise<T>): Promise<T> {
    if (this.requests >= this.#limits.concurrent) throw overloaded();
    this.requests++;
    try {
      await turn();
      return await work();
    } finally {
      this.requests--;
    }
  }

  /** Counts bytes that are held, or refuses them. */
  hold(bytes: number): void {
    if (this.#bytes + bytes > this.#limits.concurrentBytes) throw overloaded();
    this.#bytes += bytes;
  }

  release(bytes: number): void {
    this.#bytes -= bytes;
  }
}

function overloaded(): ApiError {
  const details = { code: "overloaded", retryAfter: OVERLOAD_RETRY_SECONDS };
  return new ApiError(429, "too many requests at a time; try again soon", details);
}

/** Whether a client, named by a text, may ask once more now. */
export type RateLimit = (client: string) => Promise<boolean>;

/** The period of the binding that counts requests; it does not tell how much of it is left. */
const RATE_PERIOD_SECONDS = 60;

/** @throws ApiError once a client has asked too often */
export async function spend(rateLimit: RateLimit, client: string): Promise<void> {
  if (await rateLimit(client)) return;
  const details = { code: "rate_limit_exceeded", retryAfter: RATE_PERIOD_SECONDS };
  throw new ApiError(429, "too many requests of this client; wait a minute", details);
}
