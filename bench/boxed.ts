import { openModel, readModelFolder } from "../src/node/model-folder.ts";
import { alternate, type Table } from "./measure.ts";

const TEXT = "The old fisherman told the children on the pier a long story about the sea.";

/** Our own models, from a text to its vector, tokenising included, on one thread. */
export async function* boxed(): AsyncGenerator<Table> {
  const cases = await Promise.all(
    ["simcse-edge-nano", "simcse-edge-mini"].map(async (name) => {
      const model = await openModel(await readModelFolder(name));
      const { length } = model.tokenizer.encode(TEXT, 128).ids;
      const run = (): void => void model.encode([TEXT]);
      return { name: `${name}, ${length} tokens`, work: 1, run };
    }),
  );
  const rows = alternate(cases);
  yield { title: "text to vector, int8", unit: "texts/s", reference: rows[0]!.name, rows };
}
