/**
 * The commands that make a model, as functions. Settings are those of a `--config` file: the options in camel case, with their
 * defaults and their checks. What a command prints goes to `onNote`, and nowhere without it.
 */
import { Command } from "commander";
import { UsageError } from "../errors.ts";
import type { RunState } from "../train/checkpoint.ts";
import { applySettings } from "./config-file.ts";
import { addInit, init as runInit, type InitOptions } from "./init.ts";
import { addQuantize, quantize as runQuantize, type QuantizeOptions } from "./quantize.ts";
import { listening } from "./terminal.ts";
import { train as runTrain, type TrainHooks } from "./train.ts";
import { trainCommand, type TrainOptions } from "./train-options.ts";
import { addVocab, vocab as runVocab, type VocabOptions } from "./vocab.ts";

export { Interrupted, type TrainHooks } from "./train.ts";
export type { InitOptions, QuantizeOptions, RunState, TrainOptions, VocabOptions };

export interface CommandHooks {
  /** A line of what the command tells. */
  readonly onNote?: (text: string) => void;
}

type Settings<Options, Needed extends keyof Options> = Partial<Options> &
  Required<Pick<Options, Needed>>;

/**
 * `simcse vocab`: trains a WordPiece vocabulary and writes it as a tokenizer.json.
 * @throws UsageError, FormatError for settings and data, as all of these
 */
export async function vocab(
  settings: Settings<VocabOptions, "corpus" | "output">,
  hooks: CommandHooks = {},
): Promise<void> {
  return told(hooks, () => runVocab(optionsOf(addVocab, settings, ["corpus", "output"])));
}

/** `simcse init`: writes a model folder with random weights. */
export async function init(
  settings: Settings<InitOptions, "tokenizer" | "output">,
  hooks: CommandHooks = {},
): Promise<void> {
  return told(hooks, () => runInit(optionsOf(addInit, settings, ["tokenizer", "output"])));
}

/**
 * `simcse train`: fine-tunes a model folder.
 * @returns the last step, and the best one where graded pairs chose it
 * @throws Interrupted once the checkpoint of a run that `signal` ended is written
 */
export async function train(
  settings: Settings<TrainOptions, "model" | "output">,
  { onNote, ...hooks }: CommandHooks & TrainHooks = {},
): Promise<RunState> {
  return told({ ...(onNote && { onNote }) }, () =>
    runTrain(optionsOf(trainCommand, settings, ["model", "output"]), {
      // The process belongs to the program that calls.
      signal: new AbortController().signal,
      ...hooks,
    }),
  );
}

/** `simcse quantize`: writes a quantised model folder. */
export async function quantize(
  settings: Settings<QuantizeOptions, "model" | "output">,
  hooks: CommandHooks = {},
): Promise<void> {
  return told(hooks, () => runQuantize(optionsOf(addQuantize, settings, ["model", "output"])));
}

function told<T>({ onNote }: CommandHooks, run: () => T): T {
  return listening(onNote ?? (() => {}), run);
}

/** The options that the command line would give for settings. */
function optionsOf<Options extends object>(
  add: (program: Command) => unknown,
  settings: object,
  needed: readonly (keyof Options & string)[],
): Options {
  const program = new Command();
  add(program);
  const [command] = program.commands;
  const given = Object.entries(settings).filter(([, value]) => value !== undefined);
  applySettings(command!, command!.name(), Object.fromEntries(given));
  const options = command!.opts<Options>();
  const absent = needed.find((name) => options[name] === undefined);
  if (absent === undefined) return options;
  throw new UsageError(`${command!.name()}: expected ${absent}, found none`);
}
