/**
 * What a `tokenizer.json` may make of a text. A regular expression that backtracks, or replacements that feed each other, would
 * let a file of a few bytes keep a text busy for years; those that tokenizers have do neither.
 */
import { FormatError } from "../errors.ts";

/** The longest of known tokenizers has 400 characters. */
const MOST_CHARACTERS = 2000;
/** A repetition of more than so many counts as one without a bound. */
const FEW = 16;
/** How many times as long replacements may make a text. */
const MOST_GROWTH = 64;
const MOST_REPLACEMENTS = 1000;
/** BERT's is 100. The time of a word grows with its square. */
const MOST_WORD = 1000;

/**
 * Refuses what may take more time or memory than the square of a text's length.
 * @throws FormatError naming the pattern and why
 */
export function checkPatterns(json: object): void {
  const { normalizer, pre_tokenizer: preTokenizer, model } = json as Record<string, unknown>;
  for (const part of [...parts(normalizer), ...parts(preTokenizer)]) {
    const { Regex: regex } = (part.pattern ?? {}) as { Regex?: unknown };
    if (typeof regex === "string") checkPattern(regex);
  }
  checkGrowth([...parts(normalizer)]);
  const { max_input_chars_per_word: word = 0 } = (model ?? {}) as Record<string, unknown>;
  if (typeof word === "number" && word <= MOST_WORD) return;
  throw new FormatError(
    `tokenizer.json: expected max_input_chars_per_word up to ${MOST_WORD}, found ${JSON.stringify(word)}`,
  );
}

interface Part {
  readonly pattern?: unknown;
  readonly content?: unknown;
}

/** A part and those it is a sequence of. */
function* parts(part: unknown): Generator<Part> {
  if (typeof part !== "object" || part === null) return;
  yield part;
  for (const [key, value] of Object.entries(part)) {
    if ((key === "normalizers" || key === "pretokenizers") && Array.isArray(value)) {
      for (const inner of value) yield* parts(inner);
    }
  }
}

/** Refuses replacements that make a text much longer, because they replace what others have put there. */
function checkGrowth(normalizers: readonly Part[]): void {
  const replacements = normalizers.flatMap(({ pattern, content }) => {
    const { String: text } = (pattern ?? {}) as { String?: unknown };
    if (!pattern || typeof content !== "string") return [];
    const before = typeof text === "string" ? text : undefined; // a pattern may find anything
    const factor = Math.max(1, content.length / Math.max(1, before?.length ?? 1));
    return [{ before, content, factor, growth: factor }];
  });
  if (replacements.length > MOST_REPLACEMENTS) {
    throw new FormatError(
      `tokenizer.json: expected up to ${MOST_REPLACEMENTS} replacements, found ${replacements.length}`,
    );
  }
  replacements.forEach((later, j) => {
    for (const { content, growth } of replacements.slice(0, j)) {
      const feeds = !later.before || Array.from(later.before).some((c) => content.includes(c));
      if (feeds) later.growth = Math.max(later.growth, later.factor * growth);
    }
    if (later.growth <= MOST_GROWTH) return;
    throw new FormatError(
      `tokenizer.json: its replacements may make a text ${later.growth} times as long, above the limit of ${MOST_GROWTH}`,
    );
  });
}

/**
 * Refuses a pattern whose time is not bounded by the square of the text: only characters and classes repeat without end,
 * never groups that hold a choice or a repetition, and an alternative has one such repetition that may give back what it took.
 * @throws FormatError with the pattern
 */
export function checkPattern(source: string): void {
  const refuse = (why: string): never => {
    const shown = JSON.stringify(source.slice(0, 60));
    throw new FormatError(
      `tokenizer.json: the pattern ${shown} ${why}: some text would take it years; use one that does not`,
    );
  };
  if (source.length > MOST_CHARACTERS) refuse(`has more than ${MOST_CHARACTERS} characters`);
  let at = 0;

  const quantifier = (): { least: number; most: number } => {
    const [text, sign, low, comma, high] =
      /^(?:([*+?])|\{(\d+)(,?)(\d*)\})[?+]?/.exec(source.slice(at)) ?? [];
    if (text === undefined) return { least: 1, most: 1 };
    at += text.length;
    if (sign) return { least: sign === "+" ? 1 : 0, most: sign === "?" ? 1 : Infinity };
    return { least: +low!, most: comma === "" ? +low! : high === "" ? Infinity : +high! };
  };

  /** The alternatives up to a closing parenthesis or the end. */
  const alternatives = (): Group => {
    const group = { simple: true, long: 0, open: false, optional: false };
    let sum = 0; // of long repetitions in this alternative
    let open = false; // whether nothing must follow the last of them
    let optional = true;
    const end = (): void => {
      if (sum - (open ? 1 : 0) > 1) refuse("has repetitions that compete");
      if (sum >= group.long) group.open = open;
      group.long = Math.max(group.long, sum);
      group.optional ||= optional;
      [sum, open, optional] = [0, false, true];
    };
    while (at < source.length && source[at] !== ")") {
      if (source[at] === "|") {
        at++;
        end();
        group.simple = false;
        continue;
      }
      const inner = atom();
      const { least, most } = quantifier();
      if (inner && !inner.simple && most > 1) refuse("repeats a group that chooses or repeats");
      const long = most > FEW ? 1 : (inner?.long ?? 0);
      if (most !== 1 || least !== 1 || inner) group.simple = false;
      sum += long;
      const skippable = least === 0 || (inner?.optional ?? false);
      if (long > 0) open = inner ? inner.open || most > FEW : true;
      else if (!skippable) open = false;
      if (!skippable) optional = false;
    }
    end();
    return group;
  };

  /** A character, a class, or a group, of which what is in it counts. */
  const atom = (): Group | undefined => {
    const rest = source.slice(at);
    if (/^\\(?:[1-9]|k<)/.test(rest)) refuse("refers back to a group");
    if (!rest.startsWith("(")) {
      at += /^(?:\\[pPuxN]\{[^}]*\}|\\.|\[(?:\\.|[^\]\\])*\]|[^])/u.exec(rest)![0].length;
      return undefined;
    }
    const opening = /^\((?:\?(?:<?[=!]|<\w+>|>|[a-z-]*:))?/i.exec(rest)![0];
    at += opening.length;
    const group = alternatives();
    at++;
    // What looks ahead or behind takes nothing, but may refuse.
    return /[=!]$/.test(opening) ? { ...group, open: false, optional: false } : group;
  };

  while (at < source.length) {
    alternatives();
    at++; // a parenthesis too many: the class of BLOOM's pattern has one
  }
}

interface Group {
  /** Nothing but characters and classes, one after another. */
  readonly simple: boolean;
  /** Long repetitions of the alternative that has most. */
  readonly long: number;
  /** Whether nothing must follow the last of them. */
  readonly open: boolean;
  /** Whether it matches nothing at all. */
  readonly optional: boolean;
}
