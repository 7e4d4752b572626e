import { setTimeout as sleep } from "node:timers/promises";
import { type Command, Option } from "commander";
import { UsageError } from "../errors.ts";
import { readItems } from "../node/text-files.ts";
import { wholeNumber } from "./options.ts";
import { count, note, Progress } from "./terminal.ts";

interface FillOptions {
  readonly url: string;
  readonly apiKey?: string;
  readonly field?: string;
  readonly batchSize: number;
  readonly truncate?: boolean;
}

/** Characters of a request's documents, well below the bytes that a body may have. */
const MOST_CHARACTERS = 400_000;
/** Times that a request is made while the server asks to wait. */
const ATTEMPTS = 10;

/** Documents of a file as JSON; one without an `id` has its number, from 0. */
async function* readDocuments(input: string, field?: string): AsyncGenerator<string> {
  let row = 0;
  for await (const { id = row, text, metadata } of readItems(input, field)) {
    yield JSON.stringify({ id: String(id), text, metadata });
    row++;
  }
}

/** Writes documents, again while the server has too much to do. */
async function send(
  { url, apiKey, truncate = false }: FillOptions,
  documents: readonly string[],
): Promise<void> {
  const address = new URL("/documents", url);
  for (let attempt = 1; ; attempt++) {
    const response = await fetch(address, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }),
      },
      body: `{"documents":[${documents.join()}],"truncate":${truncate}}`,
    }).catch((cause: unknown) => {
      throw new Error(`${address.href}: cannot be reached; is the server running?`, { cause });
    });
    const answer = await response.text();
    if (response.ok) return;
    const wait = Number(response.headers.get("retry-after"));
    if (wait > 0 && attempt < ATTEMPTS) await sleep(1000 * wait);
    else throw new Error(`${address.href}: ${response.status} ${answer.slice(0, 500)}`);
  }
}

async function fill(input: string, options: FillOptions): Promise<void> {
  if (!URL.canParse(options.url)) throw new UsageError(`--url ${options.url}: expected an address`);
  const line = new Progress();
  let batch: string[] = [];
  let characters = 0;
  let done = 0;
  const flush = async (): Promise<void> => {
    if (batch.length === 0) return;
    await send(options, batch);
    done += batch.length;
    line.show(() => `${count(done)} documents`);
    [batch, characters] = [[], 0];
  };
  try {
    for await (const document of readDocuments(input, options.field)) {
      const full = batch.length === options.batchSize;
      if (full || characters + document.length > MOST_CHARACTERS) await flush();
      batch.push(document);
      characters += document.length;
    }
    await flush();
  } finally {
    line.end();
    note(`${count(done)} documents written; the same command again writes the same ones`);
  }
}

export function addFill(index: Command): void {
  index
    .command("fill")
    .description("write the texts of a file into the documents of a server")
    .argument(
      "<input>",
      "texts: .jsonl with ids and metadata, a table, or a text a line; - is stdin",
    )
    .option("--url <address>", "the server", "http://127.0.0.1:8787")
    .addOption(new Option("--api-key <key>", "a key of it").env("SIMCSE_API_KEY"))
    .option("--field <name>", "the field that has the text (default: text)")
    .option("--batch-size <n>", "most documents of a request", wholeNumber(1), 100)
    .option("--truncate", "cut texts that are too long for the model")
    .action((input: string, options: FillOptions) => fill(input, options));
}
