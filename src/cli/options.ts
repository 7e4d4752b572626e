import { availableParallelism } from "node:os";
import { InvalidArgumentError } from "commander";
import { UsageError } from "../errors.ts";

/** Parsers of option values: each refuses by saying what it expects. */
export function wholeNumber(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < least || text.trim() === "") {
      throw new InvalidArgumentError(`expected a whole number from ${least}.`);
    }
    return value;
  };
}

export function numberBetween(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!(value >= least && value <= most) || text.trim() === "") {
      throw new InvalidArgumentError(`expected a number between ${least} and ${most}.`);
    }
    return value;
  };
}

/** Training leaves no core idle, and more threads than cores would make every barrier wait for a sleeper. */
export const DEFAULT_THREADS: number = availableParallelism();

/**
 * A file or folder and what part of the whole it has: `name:0.7`.
 * @throws UsageError for a share of nothing
 */
export function shareOf(option: string, text: string): { name: string; share: number | undefined } {
  const [, name = text, share] = /^(.+):(\d*\.?\d+)$/.exec(text) ?? [];
  if (share !== undefined && !(Number(share) > 0)) {
    throw new UsageError(`${option} ${text}: expected a share above 0, or none`);
  }
  return { name, share: share === undefined ? undefined : Number(share) };
}
