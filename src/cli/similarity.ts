import type { Command } from "commander";
import { SimCSE } from "../node/index.ts";

export function addSimilarity(program: Command): void {
  program
    .command("similarity")
    .description("the cosine of two texts")
    .argument("<a>", "a text")
    .argument("<b>", "another")
    .requiredOption("--model <model>", "model folder, or its name on a hub: org/name[@revision]")
    .action(async (a: string, b: string, { model: folder }: { model: string }) => {
      await using model = await SimCSE.load(folder, { threads: 0 });
      console.log((await model.similarity(a, b)).toFixed(4));
    });
}
