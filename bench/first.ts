/**
 * One process from its start to its first vector, of 16 tokens by one thread: `node bench/first.ts ours <folder>`, or
 * `node bench/first.ts onnxruntime <onnxruntime-web's module> <file.onnx>`. Prints the milliseconds since the process began and
 * the most memory it had, in MB.
 */
import { existsSync, readFileSync } from "node:fs";

const ids = Array.from({ length: 16 }, (_, i) => 1000 + i);
const [peer, ...paths] = process.argv.slice(2);
if (peer === "ours") {
  const { SimCSE } = await import("../src/node/index.ts");
  const model = await SimCSE.load(paths[0]!, { threads: 1 });
  await model.encode(ids);
} else {
  const { openSession } = await import("./onnxruntime.ts");
  await (
    await openSession(paths[0]!, paths[1]!)
  )([ids]);
}
const milliseconds = performance.now();
// Linux gives a process the maxRSS of the one that started it.
const status = existsSync("/proc/self/status") ? readFileSync("/proc/self/status", "utf8") : "";
const kibibytes = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? process.resourceUsage().maxRSS);
console.log(JSON.stringify({ milliseconds, megabytes: (kibibytes * 1024) / 1e6 }));
process.exit(0);
