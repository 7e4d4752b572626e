import { type Command, InvalidArgumentError, type Option } from "commander";
import { FormatError } from "../errors.ts";

/**
 * Sets the options of a command to those of a JSON file, `{"batchSize": 64}` for `--batch-size 64` and `{"dropout": false}` for
 * `--no-dropout`. Each value goes through the parser of its option, so that a file allows what the command line does; what
 * stands on the command line stays.
 * @throws FormatError naming the file, the setting and what was expected
 */
export function applySettings(command: Command, file: string, settings: object): void {
  if (Array.isArray(settings)) {
    throw new FormatError(`${file}: expected an object of settings, found a list`);
  }
  for (const [name, value] of Object.entries(settings)) {
    const option = command.options.find((candidate) => candidate.attributeName() === name);
    if (!option || name === "config") {
      throw new FormatError(
        `${file}: ${name} is no option of ${command.name()}; --help lists them, --batch-size is batchSize here`,
      );
    }
    const parsed = parse(option, value, `${file}: ${name}`);
    if (command.getOptionValueSource(name) !== "cli") {
      command.setOptionValueWithSource(name, parsed, "config");
    }
  }
}

function parse(option: Option, value: unknown, where: string): unknown {
  const expect = (what: string): never => {
    throw new FormatError(`${where}: expected ${what}, found ${JSON.stringify(value)}`);
  };
  if (option.isBoolean() || option.negate) {
    return typeof value === "boolean" ? value : expect("true or false");
  }
  if (option.variadic) {
    const isList = Array.isArray(value) && value.every((item) => typeof item === "string");
    return isList ? value : expect("a list of strings");
  }
  const text = Array.isArray(value) && option.parseArg ? value.join(",") : value;
  if (typeof text !== "string" && typeof text !== "number") return expect("a string or a number");
  if (!option.parseArg) return String(text);
  try {
    return option.parseArg(String(text), undefined);
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    throw new FormatError(`${where}: ${error.message} Found ${JSON.stringify(value)}`, {
      cause: error,
    });
  }
}
