/** Our own models in int8: a text of 16 tokens in Node and in workerd, and the memory of a Worker. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openModel, readModelFolder } from "../src/node/model-folder.ts";
import { measureLimits } from "../src/node/worker-limits.ts";
import { writeWorkerProject } from "../src/node/worker-project.ts";
import { alternate, figure, type Table } from "./measure.ts";
import { requestTimes } from "./workerd.ts";

/** 16 tokens to a transformer; 14 to a static model, which knows no tokens that frame a text. */
const TEXT = "The old man told all the children a long story about the sea.";
const MODELS = ["simcse-edge-nano", "simcse-edge-mini"];

export async function* boxed(): AsyncGenerator<Table> {
  const folders = await Promise.all(MODELS.map(readModelFolder));
  const cases = await Promise.all(
    folders.map(async (folder, i) => {
      const model = await openModel(folder);
      const { length } = model.tokenizer.encode(TEXT, 128).ids;
      const run = (): void => void model.encode([TEXT]);
      return { name: `${MODELS[i]}, ${length} tokens`, work: 1, run };
    }),
  );
  const rows = alternate(cases);
  yield { title: "text to vector, one thread", unit: "texts/s", reference: rows[0]!.name, rows };

  const directory = mkdtempSync(join(tmpdir(), "simcse-boxed-"));
  try {
    const memory = [];
    for (const [i, model] of folders.entries()) {
      const project = await writeWorkerProject(join(directory, MODELS[i]!), { model });
      const times = await requestTimes(project, TEXT);
      yield {
        title: `${MODELS[i]}, a request with the same text, without a network`,
        unit: "µs",
        reference: times[0]!.name,
        rows: times.map(({ name, median, min, max }) => ({
          name,
          median: 1000 * median,
          min: 1000 * min,
          max: 1000 * max,
        })),
      };
      const limits = await measureLimits(project);
      const whole = limits.find(({ name }) => name.startsWith("… with heap"))!;
      memory.push(figure(MODELS[i]!, [whole.value]));
    }
    yield {
      title: "a Worker's linear memory, heap and weights",
      unit: "MB",
      reference: MODELS[0]!,
      rows: memory,
    };
  } finally {
    rmSync(directory, { recursive: true });
  }
}
