/** Second half of `npm run build`: what tsc does not copy into dist/. */
import { cpSync } from "node:fs";

for (const target of ["node", "edge", "portable"]) {
  cpSync(`build/${target}.wasm`, `dist/build/${target}.wasm`);
}
cpSync("build/tab.js", "dist/build/tab.js");
cpSync("worker/public", "dist/worker/public", { recursive: true });
