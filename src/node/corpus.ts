/**
 * Sentences to train on: a file of them, or the English prose that every Node project already has on disk, in the
 * Markdown and the doc comments of its packages.
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { FormatError } from "../errors.ts";
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

/**
 * Collects the English sentences of the Markdown files and doc comments under a folder, usually `node_modules`, in the
 * order of paths and then of the text, so that neighbours stay neighbours. The same files give the same sentences.
 * Links are not followed.
 * @throws Error when the folder cannot be read, FormatError when there is no sentence in it
 */
export async function collectCorpus(root: string): Promise<CorpusReport & { sentences: string[] }> {
  const seen = new Set<string>();
  const sentences: string[] = [];
  let found = 0;
  let files = 0;
  for (const path of await list(root)) {
    const text = await read(path);
    if (text === undefined) continue;
    files++;
    for (const sentence of MARKDOWN.test(path) ? markdownSentences(text) : commentSentences(text)) {
      found++;
      const key = sentence.toLowerCase().replace(/[.!?:]+$/, "");
      if (seen.has(key)) continue;
      seen.add(key);
      sentences.push(sentence);
    }
  }
  if (seen.size === 0) {
    throw new FormatError(
      `${root}: no English sentence in ${files} Markdown and source files; ` +
        `give a folder of installed packages, or a text file with one sentence a line`,
    );
  }
  return { files, found, duplicates: found - seen.size, sentences };
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

/** Tags whose text is prose; that of the others is code, a name or a version. */
const PROSE_TAG =
  /^@(?:(?<named>param|arg|argument|property|prop|template|typeParam)|returns?|deprecated|throws|remarks|desc(?:ription)?|summary|note|privateRemarks)\b:?\s*/;
const TYPE = /^\{(?:[^{}]|\{[^{}]*\})*\}\s*/;
const NAME = /^(?:\[[^\]]*\]|\S+)\s*/;
const DASH = /^[-–—:]+\s*/;

/** Sentences of the doc comments of a source text, which begin a line: elsewhere `/**` is most often a glob. */
function* commentSentences(source: string): Generator<string> {
  for (const [, comment] of source.matchAll(/^[ \t]*\/\*\*(?![*/])([\s\S]*?)\*\//gm)) {
    let skipping = false;
    const markdown: string[] = [];
    for (const starred of comment!.split("\n")) {
      const line = starred.replace(/^\s*\*? ?/, "").trimEnd();
      if (line.startsWith("@")) {
        const tag = PROSE_TAG.exec(line);
        skipping = tag === null;
        if (tag === null) continue;
        let prose = line.slice(tag[0].length).replace(TYPE, "");
        if (tag.groups?.["named"] !== undefined) prose = prose.replace(NAME, "");
        markdown.push("", prose.replace(DASH, ""));
      } else if (!skipping) {
        markdown.push(line);
      }
    }
    yield* markdownSentences(markdown.join("\n"));
  }
}

const FENCE = /^\s*(?:```|~~~)/;
/** The mark of a list item, and the name and type that an option's description begins with. */
const LIST_MARK =
  /^\s*(?:[-*+•]|\d+[.)]|[a-z]\))\s+(?:(?:\*\*[^*]+\*\*|`[^`]+`)[^-–—:]{0,60}?\s?[-–—:]\s+)?/;
/** Lines that end a paragraph and are none: tables, headings, rules, link definitions, HTML blocks. */
const NO_PROSE = /^(?:\||#|={3,}|-{3,}|\*{3,}|\[[^\]]+\]:|<\/?[a-z])/i;

function* markdownSentences(markdown: string): Generator<string> {
  let fenced = false;
  let paragraph = "";
  const text = markdown.replace(/<!--[\s\S]*?-->/g, "").replace(/^---\n[\s\S]*?\n---\n/, "");
  for (const line of text.split("\n")) {
    const bare = line.replace(/^[\s>]+/, "");
    const fence = FENCE.test(line);
    const mark = LIST_MARK.exec(line);
    const ends = fence || fenced || bare === "" || mark !== null || NO_PROSE.test(bare);
    if (ends) {
      yield* sentencesOf(paragraph);
      paragraph = "";
    }
    if (fence) fenced = !fenced;
    const code = paragraph === "" && mark === null && /^(?: {4}|\t)/.test(line);
    if (fence || fenced || code || (ends && mark === null)) continue;
    paragraph += ` ${mark === null ? bare : line.slice(mark[0].length)}`;
  }
  yield* sentencesOf(paragraph);
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&lt;": "<",
  "&gt;": ">",
  "&amp;": "&",
  "&quot;": '"',
  "&#39;": "'",
  "&nbsp;": " ",
};

/**
 * The words of a paragraph of Markdown without its marks. Text is full of `<audio>`, which names an element; a tag that
 * is closed, or has attributes, is markup instead.
 */
function plain(paragraph: string): string {
  return paragraph
    .replace(/!\[[^\]]*\](?:\((?:[^()]|\([^()]*\))*\)|\[[^\]]*\])/g, "")
    .replace(/\[!\w+\]/g, "")
    .replace(/\[([^\]]+)\](?:\((?:[^()]|\([^()]*\))*\)|\[[^\]]*\])/g, "$1")
    .replace(/\{@\w+\s+[^|}]*\|\s*([^}]*)\}/g, "$1")
    .replace(/\{@\w+\s+(?:[^}\s]+\s+)?([^}]+)\}/g, "$1")
    .replace(/`+([^`]*)`+/g, "$1")
    .replace(/&(?:lt|gt|amp|quot|#39|nbsp);/g, (entity) => ENTITIES[entity]!)
    .replace(/<(\w+)\b[^<>]*>([^<]*)<\/\1>/g, "$2")
    .replace(/(?<=\w)<[^<>]*>|<\/[^<>]*>|<(?:br|p|li|hr)\b[^<>]*>|<[a-z]+\s[^<>]*>/gi, "")
    .replace(/<([a-z][\w-]*)\s*\/?>/gi, "$1")
    .replace(/\\([\\`*_{}[\]()#+.!-])/g, "$1")
    .replace(/(?<!\w)([*_]{1,3})(?=\S)(.*?\S)\1(?!\w)/g, "$2")
    .replace(/\s+/g, " ")
    .trim();
}

const segmenter = new Intl.Segmenter("en", { granularity: "sentence" });
/** Where the segmenter ends a sentence too early: after an abbreviation, or a name that begins with a full stop. */
const UNFINISHED =
  /(?:\b(?:e\.\s?g|i\.\s?e|vs|cf|approx|resp|incl|fig|al|w\.r\.t|a\.k\.a)\.|\s\.)\s*$/i;

function* sentencesOf(paragraph: string): Generator<string> {
  if (paragraph.length < 16) return;
  let sentence = "";
  for (const { segment } of segmenter.segment(plain(paragraph))) {
    sentence += segment;
    if (UNFINISHED.test(sentence)) continue;
    if (isProse(sentence.trim())) yield sentence.trim();
    sentence = "";
  }
  if (isProse(sentence.trim())) yield sentence.trim();
}

const FUNCTION_WORD =
  /\b(?:the|a|an|of|to|in|is|are|be|was|for|and|or|if|that|this|with|on|as|by|it|not|from|when|which|will|can|at|has|have)\b/i;
const LEGAL =
  /copyright|licen[cs]ed? under|all rights reserved|warrant|permission is hereby|spdx|redistribut/i;
/**
 * Code that lost its marks, addresses, holes where markup was, the lead of a list or a block of code, and lines of a
 * change log: commit hashes, thanks, issue numbers.
 */
const NO_SENTENCE =
  /[{}<>=|\\~^*#$`\u{FFFD}]|:\/\/|www\.|\s[,.;:)](?:\s|$)|\(\s|\s\(\)|[:;,]$|^[a-z]\S*: |\b[0-9a-f]{7,40}\b|\(@|^thanks to/u;
const WORD = /^[("'“‘[]*[a-z]+(?:['’/-][a-z]+)*[)"'”’\],.;:!?…]*$/i;
/** A fragment may lack its full stop or its capital, not both. */
const FRAGMENT = /^[^A-Z0-9]?[a-z].*[^.!?"')]$/;

function isProse(sentence: string): boolean {
  const words = sentence.split(" ");
  if (words.length < 4 || words.length > 40) return false;
  if (NO_SENTENCE.test(sentence) || FRAGMENT.test(sentence) || LEGAL.test(sentence)) return false;
  if (!FUNCTION_WORD.test(sentence) || !/^[("'“‘]?[A-Za-z0-9]/.test(sentence)) return false;
  return words.filter((word) => WORD.test(word)).length >= 0.75 * words.length;
}
