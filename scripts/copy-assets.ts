/** Second half of `npm run build`: what tsc does not copy into dist/. */
import { cpSync } from "node:fs";

cpSync("build", "dist/build", { recursive: true, filter: (path) => !path.endsWith(".map") });
cpSync("worker/public", "dist/worker/public", { recursive: true });
