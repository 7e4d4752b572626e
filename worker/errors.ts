/** What goes wrong, and how each dialect says it. */
import type { ContentfulStatusCode } from "hono/utils/http-status";

export interface ErrorDetails {
  /** The field that is wrong, such as `input[3]`. */
  readonly param?: string | null;
  /** What programs tell errors apart by. */
  readonly code?: string | null;
  /** Seconds after which the same request may succeed. */
  readonly retryAfter?: number;
  /** An input without content, which TEI tells apart from other errors. */
  readonly empty?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
}

/** An answer that is an error. `status` is OpenAI's; `inDialect` translates it. */
export class ApiError extends Error {
  readonly status: ContentfulStatusCode;
  readonly param: string | null;
  readonly code: string | null;
  readonly empty: boolean;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: ContentfulStatusCode,
    message: string,
    { param = null, code = null, retryAfter, empty = false, headers = {} }: ErrorDetails = {},
  ) {
    super(message);
    this.status = status;
    this.param = param;
    this.code = code;
    this.empty = empty;
    const retry = retryAfter === undefined ? {} : { "retry-after": String(retryAfter) };
    this.headers = { ...headers, ...retry };
  }
}

/** Routes of Hugging Face's text-embeddings-inference; all others speak as OpenAI does. */
const TEI_ROUTES = new Set(["/embed", "/similarity", "/tokenize", "/info", "/metrics"]);

/** Status and body of an error, as clients of the route at `path` read it. */
export function inDialect(
  path: string,
  { status, message, param, code, empty }: ApiError,
): { status: ContentfulStatusCode; body: object } {
  if (!TEI_ROUTES.has(path)) {
    return { status, body: { error: { message, type: openAiType(status), param, code } } };
  }
  return {
    status: status === 400 && !empty ? 422 : status,
    body: { error: message, error_type: empty ? "Empty" : teiType(status) },
  };
}

/** TEI's word for a status: it has six, and every refusal without one of its own is a Validation. */
export function teiType(status: number): string {
  return TEI_TYPES[status] ?? "Validation";
}

const TEI_TYPES: Readonly<Record<number, string>> = {
  429: "Overloaded",
  500: "Backend",
  503: "Unhealthy",
};

function openAiType(status: number): string {
  if (status >= 500) return "server_error";
  return status === 429 ? "requests" : "invalid_request_error";
}
