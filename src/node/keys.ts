/** API keys: 256 random bits each, of which servers know only the SHA-256. */
import { createHash, randomBytes } from "node:crypto";

export function makeKey(): string {
  return `simcse-${randomBytes(32).toString("base64url")}`;
}

/** What `API_KEY_HASHES` lists; the same as `printf %s KEY | sha256sum`. */
export function hashOf(key: string): string {
  return createHash("sha256").update(key).digest("hex");
}
