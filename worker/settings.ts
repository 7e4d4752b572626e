/** What a server is told by its environment: a Worker's variables and bindings, or the command line. */
import { type Access, accessOf } from "./auth.ts";
import { DEFAULT_LIMITS, type Limits, limitsOf, type RateLimit } from "./limits.ts";
import { entriesOf, type ReadVariable } from "./variables.ts";

export interface Settings {
  readonly access: Access;
  readonly limits: Limits;
  /** Origins whose pages may read the answers, such as `https://example.com`. */
  readonly corsOrigins: readonly string[];
  /** Whether clients may have the files of the model, to compute vectors themselves. */
  readonly shareModel: boolean;
  /** Absent: any rate. */
  readonly rateLimit?: RateLimit;
}

/**
 * Settings of an environment; docs/security.md lists the variables. An environment that makes no sense lets nobody in, and says
 * why, rather than stand open by a slip of the pen.
 */
export function settingsOf(env: Readonly<Record<string, unknown>>): Settings {
  const limiter = env["RATE_LIMITER"] as
    { limit(options: { key: string }): Promise<{ success: boolean }> } | undefined;
  const read: ReadVariable = (name) => {
    const value = env[name];
    return value === undefined || typeof value === "string" ? value : JSON.stringify(value);
  };
  try {
    return {
      access: accessOf(read),
      limits: limitsOf(read),
      corsOrigins: originsOf(read("CORS_ORIGINS")),
      shareModel: read("SHARE_MODEL") === "true",
      ...(limiter && { rateLimit: async (key) => (await limiter.limit({ key })).success }),
    };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const access = {
      kind: "closed",
      reason: `this server is misconfigured: ${error.message}`,
    } as const;
    return { access, limits: DEFAULT_LIMITS, corsOrigins: [], shareModel: false };
  }
}

function originsOf(list: string | undefined): string[] {
  const origins = entriesOf(list);
  for (const origin of origins) {
    if (URL.canParse(origin) && new URL(origin).origin === origin) continue;
    throw new RangeError(
      `CORS_ORIGINS: expected origins such as https://example.com, found ${origin}`,
    );
  }
  return origins;
}
