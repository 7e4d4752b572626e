/** How much one request may ask for. */
export interface Limits {
  /** Longest body, in bytes. */
  readonly bodyBytes: number;
  /** Most texts of a request. */
  readonly inputs: number;
  /** Most results of a search. */
  readonly results: number;
}

export const DEFAULT_LIMITS: Limits = {
  bodyBytes: 2_000_000,
  inputs: 2048,
  results: 50,
};
