/** Routes of Hugging Face's text-embeddings-inference. */
import type { Hono } from "hono";
import type { Api } from "./app.ts";

export function addTei(app: Hono, { service }: Api): void {
  app.get("/info", async (c) => {
    const { name, model, index } = await service();
    const { maxLength, pooling, dtype } = model.config;
    return c.json({
      model: name,
      dimension: model.dimension,
      max_length: maxLength,
      pooling,
      dtype,
      sentences: index?.size ?? 0,
    });
  });

  app.get("/health", async (c) => {
    await service();
    return c.json({ status: "ok" });
  });
}
