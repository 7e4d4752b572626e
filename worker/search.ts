/** Search over the documents of a store, or over the sentences that are served. */
import * as v from "valibot";
import { truncate } from "../src/quantize/embeddings.ts";
import type { Api, App } from "./app.ts";
import { type Filter, filterSchema, matches } from "./documents/filter.ts";
import { spaceOf } from "./documents/space.ts";
import { embed, promptFor, Text, tokenize } from "./embed.ts";
import { ApiError } from "./errors.ts";
import type { Limits } from "./limits.ts";
import { readJson } from "./request.ts";

interface SearchRequest {
  readonly query: string;
  readonly top_k: number;
  readonly threshold: number;
  readonly filter?: Filter | undefined;
}
export const searchRequest = ({ results }: Limits): v.GenericSchema<unknown, SearchRequest> =>
  v.object({
    query: Text,
    top_k: v.optional(
      v.pipe(
        v.number("expected a number"),
        v.integer("expected a whole number"),
        v.minValue(1, "expected at least 1"),
        v.maxValue(results, `expected at most ${results}`),
      ),
      5,
    ),
    threshold: v.optional(v.number("expected a number"), -1),
    filter: v.optional(filterSchema),
  });

export function addSearch(app: App, api: Api): void {
  const Request = searchRequest(api.limits);
  const { documents } = api;

  app.post("/search", async (c) => {
    const { query, top_k: topK, threshold, filter } = await readJson(c, Request, api);
    const { model, index } = await api.service();
    if (!index && !documents) throw new ApiError(404, "there is nothing to search here");
    if (topK > (documents?.mostResults ?? Infinity)) {
      const message = `top_k: expected at most ${documents!.mostResults} of this store`;
      throw new ApiError(400, message, { param: "top_k" });
    }
    const { signal } = c.req.raw;
    const prompt = documents ? promptFor(model, { inputType: "query" }) : {};
    const tokenIds = await tokenize(model, [query], api, { param: "query", signal, ...prompt });
    const [vector] = await embed(model, tokenIds, { signal });
    if (documents) {
      const space = await spaceOf(model);
      return c.json({
        results: await documents.search(space, vector!, { topK, threshold, filter }),
      });
    }
    const results = index!.search(truncate(vector!, index!.dimension), {
      topK,
      threshold,
      ...(filter && { filter: ({ metadata }) => matches(filter, metadata) }),
    });
    return c.json({ results });
  });
}
