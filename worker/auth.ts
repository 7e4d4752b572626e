/**
 * Who may ask. Only SHA-256 hashes of keys are configured: keys are 256 random bits, so nothing slower than SHA-256 is
 * needed to keep a leaked hash from becoming a key.
 */
import type { MiddlewareHandler } from "hono";
import { sha256Hex } from "../src/files/checksum.ts";
import { ApiError } from "./errors.ts";
import { entriesOf, type ReadVariable } from "./variables.ts";

/** Everybody, whoever has one of some keys, or nobody with the reason that they are told. */
export type Access =
  | { readonly kind: "public" }
  | { readonly kind: "keys"; readonly hashes: readonly string[] }
  | { readonly kind: "closed"; readonly reason: string };

/** What the routes know of a client: its key's hash, or its address. It is what rates are counted by, and never logged. */
export interface ClientVariables {
  readonly Variables: { readonly client: string };
}

const HASH = /^[0-9a-f]{64}$/;

/**
 * Access by `API_KEY_HASHES`, hashes in hex between spaces or commas, and `PUBLIC`. Without both, and with a hash that is
 * none, nobody gets in.
 */
export function accessOf(read: ReadVariable): Access {
  const hashes = entriesOf(read("API_KEY_HASHES"));
  const broken = hashes.findIndex((hash) => !HASH.test(hash));
  if (broken >= 0) {
    const entry = `entry ${broken + 1} of API_KEY_HASHES is no SHA-256 in hex`;
    return closed(`${entry}; \`simcse key\` prints one`);
  }
  if (hashes.length > 0) return { kind: "keys", hashes };
  if (read("PUBLIC") === "true") return { kind: "public" };
  return closed('set API_KEY_HASHES to what `simcse key` prints, or PUBLIC to "true"');
}

function closed(problem: string): Access {
  return { kind: "closed", reason: `this server is not configured to answer anybody: ${problem}` };
}

/** Lets through whom `access` allows, before anything else of a request is read. */
export function authenticate(access: Access): MiddlewareHandler<ClientVariables> {
  return async (c, next) => {
    if (access.kind === "closed") throw refusal(access.reason);
    let client = c.req.header("cf-connecting-ip") ?? "";
    if (access.kind === "keys") {
      const [, key] = /^bearer +(\S+) *$/i.exec(c.req.header("authorization") ?? "") ?? [];
      if (key === undefined) {
        throw refusal("expected an API key in the header `Authorization: Bearer …`");
      }
      client = await sha256Hex(new TextEncoder().encode(key));
      if (!isOneOf(client, access.hashes)) throw refusal("the API key is not one of this server's");
    }
    c.set("client", client);
    await next();
  };
}

function refusal(message: string): ApiError {
  const headers = { "www-authenticate": 'Bearer realm="simcse-edge"' };
  return new ApiError(401, message, { code: "invalid_api_key", headers });
}

/** Compares with every hash to its end, so that the time taken tells nothing about them. */
function isOneOf(hash: string, hashes: readonly string[]): boolean {
  let found = 0;
  for (const candidate of hashes) {
    let difference = 0;
    for (let i = 0; i < 64; i++) difference |= hash.charCodeAt(i) ^ candidate.charCodeAt(i);
    found |= Number(difference === 0);
  }
  return found === 1;
}
