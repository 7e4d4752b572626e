/** Retrieval data in BEIR's layout: `corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv`. */
import { join } from "node:path";
import { FormatError } from "../errors.ts";
import type { Judgements } from "../evaluate/retrieval.ts";
import { lines } from "./rows.ts";

export interface RetrievalData {
  /** Texts by id: of a document its title and text. */
  readonly documents: ReadonlyMap<string, string>;
  /** Those with judgements. */
  readonly queries: ReadonlyMap<string, { readonly text: string; readonly judgements: Judgements }>;
}

const WHOLE = /^-?\d+$/;

/**
 * Reads the documents, and the queries that a split judges.
 * @throws FormatError naming file and line of what is malformed, an id that is there twice, or a judgement of an id that is
 * not there; Error for a file that cannot be read
 */
export async function readRetrieval(folder: string, split: string): Promise<RetrievalData> {
  const documents = await readTexts(join(folder, "corpus.jsonl"));
  const texts = await readTexts(join(folder, "queries.jsonl"));
  const judged = new Map<string, { text: string; judgements: Map<string, number> }>();
  const file = join(folder, "qrels", `${split}.tsv`);
  let relevant = false;
  for await (const { text, line } of lines(file, "expected query id, document id and relevance")) {
    if (text.trim() === "") continue;
    const where = `${file}:${line}`;
    const [query, document, grade, ...more] = text.split("\t");
    if (line === 1) {
      if (grade !== undefined && !WHOLE.test(grade.trim())) continue;
      throw new FormatError(
        `${where}: expected the names of three columns, as query-id, corpus-id and score with tabs between them, ` +
          `found ${JSON.stringify(text.slice(0, 60))}`,
      );
    }
    if (document === undefined || more.length > 0 || !WHOLE.test(grade?.trim() ?? "")) {
      throw new FormatError(
        `${where}: expected query id, document id and a whole number with tabs between them, found ${JSON.stringify(text.slice(0, 60))}`,
      );
    }
    const known = texts.get(query!);
    if (known === undefined || !documents.has(document)) {
      const [what, id, source] =
        known === undefined
          ? ["query", query, "queries.jsonl"]
          : ["document", document, "corpus.jsonl"];
      throw new FormatError(
        `${where}: expected a ${what} of ${source}, found ${JSON.stringify(id)}; are the files of one data set?`,
      );
    }
    const entry = judged.get(query!) ?? { text: known, judgements: new Map<string, number>() };
    judged.set(query!, entry);
    entry.judgements.set(document, Number(grade));
    relevant ||= Number(grade) > 0;
  }
  if (relevant) return { documents, queries: judged };
  throw new FormatError(`${file}: expected judgements, found no document that is relevant`);
}

async function readTexts(file: string): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  for await (const { text: content, line } of lines(file, "expected a JSON object a line")) {
    if (content.trim() === "") continue;
    const where = `${file}:${line}`;
    let value: unknown;
    try {
      value = JSON.parse(content);
    } catch (cause) {
      throw new FormatError(`${where}: expected a JSON object; ${(cause as Error).message}`, {
        cause,
      });
    }
    const { _id: id, title, text } = (value ?? {}) as Record<string, unknown>;
    if (typeof id !== "string" || typeof text !== "string") {
      throw new FormatError(
        `${where}: expected an object with strings "_id" and "text", found ${content.slice(0, 60)}`,
      );
    }
    if (texts.has(id)) {
      throw new FormatError(
        `${where}: the _id ${JSON.stringify(id)} is there twice; remove one of the two`,
      );
    }
    texts.set(id, typeof title === "string" ? `${title} ${text}`.trim() : text);
  }
  if (texts.size > 0) return texts;
  throw new FormatError(`${file}: expected a JSON object a line, found none; the file is empty`);
}
