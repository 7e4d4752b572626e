import { relative } from "node:path";
import type { Command } from "commander";
import { writeNewProject } from "../node/new-project.ts";
import { note } from "./terminal.ts";

interface NewOptions {
  readonly model: string;
  readonly name?: string;
}

async function create(directory: string, options: NewOptions): Promise<void> {
  const files = await writeNewProject(directory, options);
  note(`${directory}: ${files.join(", ")}`);
  note(`next: cd ${relative("", directory) || "."} && npm install && npm run dev`);
}

export function addNew(program: Command): void {
  program
    .command("new")
    .description("a Worker project of your own, which imports this package")
    .argument("<folder>", "folder to write; its files must not be there yet")
    .option("--model <model>", "model folder, or its name on a hub", "simcse-edge-nano")
    .option(
      "--name <name>",
      "what clients call the model; it also names the Worker (default: the folder's)",
    )
    .action((directory: string, options: NewOptions) => create(directory, options));
}
