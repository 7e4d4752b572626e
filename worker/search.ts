/** Search over the sentences that are served. */
import * as v from "valibot";
import { truncate } from "../src/quantize/embeddings.ts";
import type { Api, App } from "./app.ts";
import { embed, Text, tokenize } from "./embed.ts";
import { ApiError } from "./errors.ts";
import type { Limits } from "./limits.ts";
import { readJson } from "./request.ts";

const requestSchema = ({ results }: Limits) =>
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
  });

export function addSearch(app: App, api: Api): void {
  const Request = requestSchema(api.limits);

  app.post("/search", async (c) => {
    const { query, top_k: topK, threshold } = await readJson(c, Request, api);
    const { model, index } = await api.service();
    if (!index) throw new ApiError(404, "there are no sentences to search here");
    const { signal } = c.req.raw;
    const tokenIds = await tokenize(model, [query], api, { param: "query", signal });
    const [vector] = await embed(model, tokenIds, { signal });
    return c.json({
      results: index.search(truncate(vector!, index.dimension), { topK, threshold }),
    });
  });
}
