/** Documents: written with an id, found by what they mean. `worker/search.ts` has the search. */
import type { Context } from "hono";
import * as v from "valibot";
import type { Api, App } from "../app.ts";
import { embed, listOf, promptFor, Text, tokenize } from "../embed.ts";
import { ApiError } from "../errors.ts";
import type { Limits } from "../limits.ts";
import { readJson } from "../request.ts";
import { bytesOf, metadataSchema } from "./filter.ts";
import { spaceOf } from "./space.ts";
import type { Document, DocumentStore, Mutation } from "./store.ts";

/** Most documents of a request: what Vectorize takes from a Worker at a time. */
const MOST_DOCUMENTS = 1000;
/** Longest id, which is Vectorize's. */
const ID_BYTES = 64;
/** Documents of a page, unless told. */
const PAGE_LIMIT = 100;

const Id = v.pipe(
  v.string("expected a string"),
  v.nonEmpty("must not be empty"),
  v.check((id) => id.isWellFormed(), "expected well-formed Unicode"),
  v.check((id) => bytesOf(id) <= ID_BYTES, `expected at most ${ID_BYTES} bytes of UTF-8`),
);

/** Most documents of a request. */
const mostDocuments = ({ inputs }: Limits): number => Math.min(inputs, MOST_DOCUMENTS);

const many = <S extends v.GenericSchema>(schema: S, limits: Limits) =>
  listOf(schema, { ...limits, inputs: mostDocuments(limits) });

interface DocumentsRequest {
  readonly documents: readonly Document[];
  readonly truncate: boolean;
}
export const documentsRequest = (limits: Limits): v.GenericSchema<unknown, DocumentsRequest> =>
  v.object({
    documents: many(
      v.object({
        id: Id,
        text: v.pipe(
          Text,
          v.check((text) => text.isWellFormed(), "expected well-formed Unicode"),
          v.check(
            (text) => bytesOf(text) <= limits.textBytes,
            `expected at most ${limits.textBytes} bytes of UTF-8`,
          ),
        ),
        metadata: v.optional(metadataSchema(limits.metadataBytes)),
      }),
      limits,
    ),
    truncate: v.optional(v.boolean("expected true or false"), false),
  });

export const removeRequest = (
  limits: Limits,
): v.GenericSchema<unknown, { readonly ids: readonly string[] }> =>
  v.object({ ids: many(Id, limits) });

export function addDocuments(app: App, api: Api): void {
  const { limits } = api;
  const [Write, Remove] = [documentsRequest(limits), removeRequest(limits)];

  app.post("/documents", async (c) => {
    const { documents, truncate } = await readJson(c, Write, api);
    expectDistinct(documents);
    const store = storeOf(api);
    const { model } = await api.service();
    const { signal } = c.req.raw;
    const texts = documents.map(({ text }) => text);
    const tokenIds = await tokenize(model, texts, api, {
      param: "documents",
      field: "text",
      truncate: truncate ? "right" : undefined,
      signal,
      ...promptFor(model, { inputType: "document" }),
    });
    const vectors = await embed(model, tokenIds, { signal });
    const embedded = documents.map((document, i) => ({ ...document, vector: vectors[i]! }));
    const { full, mutationId } = await store.put(await spaceOf(model), embedded);
    if (full !== undefined) {
      const message = `this store holds ${full} documents at most, and nothing was written`;
      throw new ApiError(413, `${message}; remove some first`, { code: "store_full" });
    }
    const written = documents.length;
    if (mutationId === undefined) return c.json({ written });
    return c.json({ written, mutation_id: mutationId }, 202);
  });

  app.get("/documents", async (c) => {
    const limit = c.req.query("limit") ?? String(Math.min(PAGE_LIMIT, mostDocuments(limits)));
    const most = mostDocuments(limits);
    if (!(/^\d{1,9}$/.test(limit) && +limit >= 1 && +limit <= most)) {
      const message = `limit: expected a whole number from 1 to ${most}`;
      throw new ApiError(400, message, { param: "limit" });
    }
    const store = storeOf(api);
    if (!store.list) {
      throw new ApiError(404, "this store does not list its documents; ask for each by its id");
    }
    const { model } = await api.service();
    const after = c.req.query("after") ?? "";
    const { documents, more } = await store.list(await spaceOf(model), after, Number(limit));
    return c.json({ documents, next: more ? documents.at(-1)!.id : null });
  });

  app.get("/documents/:id{.+}", async (c) => {
    const store = storeOf(api);
    const { model } = await api.service();
    const document = await store.get(await spaceOf(model), c.req.param("id"));
    if (document) return c.json(document);
    throw new ApiError(404, "there is no document of this id", { code: "document_not_found" });
  });

  app.delete("/documents", async (c) => {
    const { ids } = await readJson(c, Remove, api);
    return removed(c, await storeOf(api).remove(ids));
  });

  app.delete("/documents/:id{.+}", async (c) =>
    removed(c, await storeOf(api).remove([c.req.param("id")])),
  );
}

/** The answer after a removal: there is nothing to say but the name of a change that is still to come. */
function removed(c: Context, { mutationId }: Mutation): Response {
  if (mutationId === undefined) return c.body(null, 204);
  return c.json({ mutation_id: mutationId }, 202);
}

function storeOf({ documents }: Api): DocumentStore {
  if (documents) return documents;
  throw new ApiError(404, "this server keeps no documents; start or deploy it with --documents");
}

/** The same id twice would leave it to chance which one stays. */
function expectDistinct(documents: readonly Document[]): void {
  const seen = new Set<string>();
  for (const [i, { id }] of documents.entries()) {
    const param = `documents[${i}].id`;
    if (seen.has(id)) {
      throw new ApiError(400, `${param}: another document of this request has it`, { param });
    }
    seen.add(id);
  }
}
