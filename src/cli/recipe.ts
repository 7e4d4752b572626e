/** A recipe: commands one after another, from text to a finished model, as `simcse train --config` runs them. */
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import type { Command } from "commander";
import { FormatError, UsageError } from "../errors.ts";
import { exists } from "../node/files.ts";
import { heading, note } from "./terminal.ts";

/** The settings of a command, named as in a file of `--config`: text may hold `{output}`, `{recipe}` (its
 * folder) and names of data. */
interface Stage {
  readonly command: string;
  readonly [option: string]: unknown;
}

export interface Recipe {
  /** What must be given as `--data name=file`, and what each file holds. */
  readonly data: Readonly<Record<string, string>>;
  readonly stages: readonly Stage[];
}

export interface RecipeOptions {
  readonly output: string;
  /** `name=file` each. */
  readonly data?: readonly string[];
  /** Does again what was done before. */
  readonly force?: boolean;
  /** Prints the commands, and runs none. */
  readonly dryRun?: boolean;
}

/** Whether the settings in a file are those of a recipe. */
export function isRecipe(settings: object): settings is Recipe {
  return "stages" in settings;
}

/**
 * Runs the stages in order. One whose output exists was finished before, and is left out; training goes on where it was.
 * Options of the command line go to every stage that has them; `--seed 2` adds 1 to the seeds of a recipe.
 * @throws UsageError naming data that is missing or unknown; FormatError for a recipe that is none
 */
export async function runRecipe(
  train: Command,
  file: string,
  { data, stages }: Recipe,
  options: RecipeOptions,
): Promise<void> {
  const program = train.parent!;
  const values = valuesOf(file, data, options);
  const given = train.options
    .map((option) => option.attributeName())
    .filter((name) => !OWN.has(name) && train.getOptionValueSource(name) === "cli")
    .map((name) => [name, train.getOptionValue(name) as unknown] as const);
  const seed = given.find(([name]) => name === "seed")?.[1] as number | undefined;
  const lines = stages.map(({ command, ...settings }, i) => {
    const where = `${file}: stage ${i + 1}`;
    const known = program.commands.find((candidate) => candidate.name() === command);
    if (!known) throw new FormatError(`${where}: expected a command, found ${command}`);
    const has = (name: string): boolean =>
      known.options.some((option) => option.attributeName() === name);
    const all = { ...settings, ...Object.fromEntries(given.filter(([name]) => has(name))) };
    // What differs by its seed goes on doing so.
    if (typeof settings["seed"] === "number" && seed !== undefined) {
      all["seed"] = settings["seed"] + seed - 1;
    }
    const again = command !== "train" ? [] : [options.force ? "--force" : "--resume"];
    return [command, ...flagsOf(known, all, values, where), ...again];
  });
  if (!options.dryRun) await mkdir(options.output, { recursive: true });
  for (const line of lines) {
    heading(`simcse ${line.join(" ")}`);
    if (options.dryRun) continue;
    const output = line[line.indexOf("--output") + 1]!;
    if (line[0] !== "train" && !options.force && (await exists(output))) {
      note(`${output}: made before`);
    } else {
      await program.parseAsync(line, { from: "user" });
    }
  }
}

/** Options of `simcse train` that say how a recipe runs, and go to no stage. */
const OWN = new Set(["config", "data", "output", "force", "resume", "dryRun"]);

/** What stands for each name in braces. */
function valuesOf(
  file: string,
  data: Recipe["data"],
  options: RecipeOptions,
): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  for (const entry of options.data ?? []) {
    const [, name, path] = /^([^=]+)=(.+)$/u.exec(entry) ?? [];
    if (name === undefined || path === undefined) {
      throw new UsageError(`--data ${entry}: expected name=file`);
    }
    if (!Object.hasOwn(data, name)) {
      throw new UsageError(
        `--data ${entry}: ${file} has no such data; it takes ${Object.keys(data).join(", ")}`,
      );
    }
    values.set(name, path);
  }
  const missing = Object.keys(data).filter((name) => !values.has(name));
  if (missing.length > 0) {
    const wanted = missing.map((name) => `--data ${name}=<file>: ${data[name]}`);
    throw new UsageError(`${file} needs its data:\n  ${wanted.join("\n  ")}`);
  }
  return values.set("output", options.output).set("recipe", dirname(file));
}

/** Settings as a command line has them. */
function flagsOf(
  command: Command,
  settings: Readonly<Record<string, unknown>>,
  values: ReadonlyMap<string, string>,
  where: string,
): string[] {
  const fill = (text: unknown): string =>
    String(text).replaceAll(/\{(\w+)\}/gu, (braces, name: string) => {
      const value = values.get(name);
      if (value === undefined) throw new FormatError(`${where}: ${braces} is no data of it`);
      return value;
    });
  const flags = Object.entries(settings).flatMap(([name, value]) => {
    const option = command.options.find(
      (candidate) => candidate.attributeName() === name && candidate.negate === (value === false),
    );
    if (!option?.long) {
      throw new FormatError(`${where}: ${name} is no option of ${command.name()}`);
    }
    if (typeof value === "boolean") return [option.long];
    const texts = (Array.isArray(value) ? value : [value]).map(fill);
    return [option.long, ...(option.variadic ? texts : [texts.join(",")])];
  });
  if (!flags.includes("--output")) throw new FormatError(`${where}: expected an output`);
  return flags;
}
