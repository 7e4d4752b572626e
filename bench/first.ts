/**
 * One process from its start to its first vector, of 16 tokens by one thread: `node bench/first.ts ours <folder>`, or
 * `node bench/first.ts onnxruntime <onnxruntime-web's module> <file.onnx>`. Prints the milliseconds since the process began and
 * the most memory it had, in MB.
 */
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
console.log(JSON.stringify({ milliseconds, megabytes: process.resourceUsage().maxRSS / 1e3 }));
process.exit(0);
