/** The store in a Durable Object, as a Worker's requests call it. */
import { ApiError } from "../errors.ts";
import type { DocumentStore } from "./store.ts";

/** The binding of the class `Documents`. */
export interface ObjectNamespace {
  idFromName(name: string): unknown;
  get(id: unknown): DocumentStore;
}

const NAME = "documents";
/** Seconds after which an object that is busy, or moves, may answer. */
const RETRY_SECONDS = 1;

export function remoteDocuments(namespace: ObjectNamespace): DocumentStore {
  // An error ends a stub, so each call has its own.
  const ask = async <T>(call: (store: DocumentStore) => Promise<T>): Promise<T> => {
    for (let retried = false; ; retried = true) {
      try {
        return await call(namespace.get(namespace.idFromName(NAME)));
      } catch (error) {
        const { retryable, overloaded } = error as { retryable?: boolean; overloaded?: boolean };
        // Every call can be made again: the same documents written or removed twice are as if once.
        if (retryable && !overloaded && !retried) continue;
        if (!retryable && !overloaded) throw error;
        const message = "the documents cannot be reached now; try again soon";
        throw new ApiError(503, message, { retryAfter: RETRY_SECONDS });
      }
    }
  };
  return {
    put: (...args) => ask((store) => store.put(...args)),
    get: (...args) => ask((store) => store.get(...args)),
    list: (...args) => ask((store) => store.list!(...args)),
    remove: (...args) => ask((store) => store.remove(...args)),
    search: (...args) => ask((store) => store.search(...args)),
  };
}
