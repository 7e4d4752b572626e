/** The files of the model, for a browser that computes vectors itself: `tab.ts`. */
import type { Api, App } from "./app.ts";
import { ApiError } from "./errors.ts";
import { MANIFEST } from "./weights.ts";

/** Files named by their contents never change; the manifest that names them does. */
const FOREVER = "private, max-age=31536000, immutable";
const NOT_STORED = "no-store";

export function addModelFiles(app: App, { modelFiles }: Api): void {
  app.get("/model/:file{[\\w-]+\\.\\w+}", async (c) => {
    if (!modelFiles) throw new ApiError(404, "this server does not give away its model");
    const path = `/model/${c.req.param("file")}`;
    const file = await modelFiles(path);
    if (!file.ok) {
      await file.body?.cancel();
      throw new ApiError(404, `${path}: no such file of the model`);
    }
    return c.newResponse(file.body, 200, {
      "content-type": "application/octet-stream",
      "cache-control": path === MANIFEST ? NOT_STORED : FOREVER,
    });
  });
}
