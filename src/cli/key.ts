import type { Command } from "commander";
import { hashOf, makeKey } from "../node/keys.ts";
import { note } from "./terminal.ts";

function key(): void {
  const fresh = makeKey();
  console.log(`key   ${fresh}\nhash  ${hashOf(fresh)}`);
  note(
    `The key is for the client, as \`Authorization: Bearer KEY\`; it is stored nowhere.\n` +
      `The hash is for the server, in API_KEY_HASHES with spaces between several: npx wrangler secret put API_KEY_HASHES`,
  );
}

export function addKey(program: Command): void {
  program
    .command("key")
    .description("a new API key, and the hash that a server knows it by")
    .action(key);
}
