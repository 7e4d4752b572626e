/**
 * Sentences to train on: a file of them, or the English prose that every Node project already has on disk, in the
 * Markdown and the doc comments of its packages.
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { FormatError } from "../errors.ts";
import { commentPassages, markdownPassages } from "./prose.ts";
import { readText } from "./rows.ts";

/** What a folder gave. */
export interface CorpusReport {
  /** Files read. */
  readonly files: number;
  /** Sentences of them that look like English prose. */
  readonly found: number;
  /** Those dropped because an earlier one has the same words. */
  readonly duplicates: number;
}

const SOURCE = /\.[cm]?[jt]s$/;
const MARKDOWN = /\.(?:md|mdx|markdown)$/i;
const BOILERPLATE =
  /^(?:licen[cs]e|copying|notice|third.?party|changelog|changes|history|authors|contributors|code.of.conduct)|\.min\.[cm]?js$/i;
/** Declarations are written by hand or from hand-written text at any size; other large files are bundles. */
const LARGEST = { declarations: 4 << 20, others: 1 << 20 };
/** Mean line length above which a file was written by a minifier. */
const MINIFIED = 200;
/** This package, installed beside the others, would train on its own documentation. */
const OWN_PACKAGE = "simcse-edge";

/** What a folder gave, and what it holds. */
export interface CollectedCorpus extends CorpusReport {
  readonly sentences: readonly string[];
  /** What is said first of a thing, and its name in words: `["Reads the whole of a file.", "read file"]`. */
  readonly names: readonly (readonly [sentence: string, name: string])[];
}

/**
 * Collects the English sentences of the Markdown files and doc comments under a folder, usually `node_modules`, in the
 * order of paths and then of the text, so that neighbours stay neighbours. The same files give the same sentences.
 * Links are not followed.
 * @throws Error when the folder cannot be read, FormatError when there is no sentence in it
 */
export async function collectCorpus(root: string): Promise<CollectedCorpus> {
  const seen = new Set<string>();
  const sentences: string[] = [];
  const names = new Map<string, readonly [string, string]>();
  let found = 0;
  let files = 0;
  for (const path of await list(root)) {
    const text = await read(path);
    if (text === undefined) continue;
    files++;
    const passages = MARKDOWN.test(path) ? markdownPassages(text) : commentPassages(text);
    for (const { name, sentences: said } of passages) {
      const [first] = said;
      if (first !== undefined && name !== "") names.set(`${name}\t${first}`, [first, name]);
      for (const sentence of said) {
        found++;
        const key = sentence.toLowerCase().replace(/[.!?:]+$/, "");
        if (seen.has(key)) continue;
        seen.add(key);
        sentences.push(sentence);
      }
    }
  }
  if (seen.size === 0) {
    throw new FormatError(
      `${root}: no English sentence in ${files} Markdown and source files; ` +
        `give a folder of installed packages, or a text file with one sentence a line`,
    );
  }
  return { files, found, duplicates: found - seen.size, sentences, names: [...names.values()] };
}

/**
 * Reads a corpus: UTF-8 text, also compressed (.gz, .zst), one sentence a line; a byte-order mark, blank lines and spaces around a line are dropped.
 * @throws Error when the file cannot be read, FormatError when it holds no text or is not UTF-8
 */
export async function readCorpus(file: string): Promise<string[]> {
  const sentences: string[] = [];
  const expected = "expected UTF-8 text with one sentence a line";
  let characters = 0;
  let rest = "";
  const take = (text: string): void => {
    const lines = (rest + text).split(/[\r\n]+/);
    rest = lines.pop()!;
    for (const line of lines) if (line.trim() !== "") sentences.push(line.trim());
  };
  for await (const chunk of readText(file, expected)) {
    take(chunk);
    characters += chunk.length;
  }
  take("\n");
  if (sentences.length === 0) {
    throw new FormatError(
      `${file}: found ${characters} characters without a line of text, ${expected}`,
    );
  }
  return sentences;
}

function unreadable(path: string, expected: string, error: unknown): Error {
  const reason = error instanceof Error ? error.message : String(error);
  return new Error(`${path}: ${expected}, but it cannot be read (${reason}); check the path`, {
    cause: error,
  });
}

/** Files worth reading under a folder, sorted by path in code units, which no locale changes. */
async function list(root: string): Promise<string[]> {
  try {
    const entries = await readdir(root, { recursive: true, withFileTypes: true });
    return entries
      .filter(({ name }) => (SOURCE.test(name) || MARKDOWN.test(name)) && !BOILERPLATE.test(name))
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .filter((path) => !path.slice(root.length).split(/[\\/]/).includes(OWN_PACKAGE))
      .toSorted((a, b) => (a < b ? -1 : 1));
  } catch (error) {
    throw unreadable(root, "expected a folder of packages, such as node_modules", error);
  }
}

/** The text of a file that people wrote. */
async function read(path: string): Promise<string | undefined> {
  const largest = /\.d\.[cm]?ts$/.test(path) ? LARGEST.declarations : LARGEST.others;
  if ((await stat(path)).size > largest) return undefined;
  const text = await readFile(path, "utf8");
  const lines = text.split("\n").length;
  return !MARKDOWN.test(path) && text.length > MINIFIED * lines ? undefined : text;
}
