/** The English prose in Markdown and in the doc comments of source code, and the names of what it is about. */

/** A section of a page, a doc comment or a tag of one. */
export interface Passage {
  /** What it is about, in lower-case words: `readFile` gives "read file". Empty where there is no name of two words or more. */
  readonly name: string;
  readonly sentences: readonly string[];
}

/** More words than these are a sentence. */
const MOST_WORDS = 12;

function* passage(name: string, sentences: Iterable<string>): Generator<Passage> {
  const words = name
    .replace(/([a-z0-9])([A-Z])|([A-Z])(?=[A-Z][a-z])/g, "$1$3 $2")
    .replace(/[^\p{L}\p{N}]+/gu, " ")
    .trim()
    .toLowerCase();
  const count = words.split(" ").length;
  const isName = count > 1 && count <= MOST_WORDS && /^\p{L}/u.test(words);
  const list = [...sentences];
  if (list.length > 0) yield { name: isName ? words : "", sentences: list };
}

/** Characters behind a comment in which the name of what it is about begins. */
const LONGEST_DECLARATION = 200;

/** Tags whose text is prose; that of the others is code, a name or a version. */
const PROSE_TAG =
  /^@(?:(?<named>param|arg|argument|property|prop|template|typeParam)|returns?|deprecated|throws|remarks|desc(?:ription)?|summary|note|privateRemarks)\b:?\s*/;
const TYPE = /^\{(?:[^{}]|\{[^{}]*\})*\}\s*/;
const NAME = /^(?:\[[^\]]*\]|\S+)\s*/;
const DASH = /^[-–—:]+\s*/;

/** Words that may stand before the name of what is declared. */
const DECLARATION =
  /^\s*(?:(?:export|default|declare|public|private|protected|readonly|static|async|abstract|override|get|set|function\*?|class|interface|type|const|let|var|enum|namespace|module)\s+)*["']?([A-Za-z_$][\w$-]*)/;

/**
 * The doc comments of a source text, which begin a line: elsewhere `/**` is most often a glob. A comment is of what is declared
 * behind it, a tag of what it names.
 */
export function* commentPassages(source: string): Generator<Passage> {
  for (const comment of source.matchAll(/^[ \t]*\/\*\*(?![*/])([\s\S]*?)\*\//gm)) {
    const end = comment.index + comment[0].length;
    const behind = source.slice(end, end + LONGEST_DECLARATION).trimStart();
    let name = DECLARATION.exec(behind)?.[1] ?? "";
    let markdown: string[] | undefined = [];
    for (const starred of comment[1]!.split("\n")) {
      const line = starred.replace(/^\s*\*? ?/, "").trimEnd();
      if (line.startsWith("@")) {
        if (markdown) yield* passage(name, markdownSentences(markdown.join("\n")));
        const tag = PROSE_TAG.exec(line);
        markdown = undefined;
        if (tag === null) continue;
        let prose = line.slice(tag[0].length).replace(TYPE, "");
        const named = tag.groups?.["named"] === undefined ? undefined : NAME.exec(prose)?.[0];
        name = named?.replace(/^\[|[=\]].*$/g, "") ?? "";
        prose = prose.slice(named?.length ?? 0);
        markdown = [prose.replace(DASH, "")];
      } else {
        markdown?.push(line);
      }
    }
    if (markdown) yield* passage(name, markdownSentences(markdown.join("\n")));
  }
}

const HEADING = /^#{1,6}\s+(.*?)\s*#*$/;
const FENCE = /^\s*(?:```|~~~)/;
/** The mark of a list item, and the name and type that an option's description begins with. */
const LIST_MARK =
  /^\s*(?:[-*+•]|\d+[.)]|[a-z]\))\s+(?:(?:\*\*[^*]+\*\*|`[^`]+`)[^-–—:]{0,60}?\s?[-–—:]\s+)?/;
/** Lines that end a paragraph and are none: tables, headings, rules, link definitions, HTML blocks. */
const NO_PROSE = /^(?:\||#|={3,}|-{3,}|\*{3,}|\[[^\]]+\]:|<\/?[a-z])/i;

/** The sections of a page of Markdown, each of what its heading says. */
export function* markdownPassages(markdown: string): Generator<Passage> {
  let name = "";
  let sentences: string[] = [];
  for (const part of markdownParts(markdown)) {
    if (typeof part === "string") {
      sentences.push(part);
      continue;
    }
    yield* passage(name, sentences);
    name = plain(part.heading).replace(/\([^)]*\)/g, "");
    sentences = [];
  }
  yield* passage(name, sentences);
}

function* markdownSentences(markdown: string): Generator<string> {
  for (const part of markdownParts(markdown)) if (typeof part === "string") yield part;
}

function* markdownParts(markdown: string): Generator<string | { readonly heading: string }> {
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
    const heading = fenced ? null : HEADING.exec(line);
    if (heading) yield { heading: heading[1]! };
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
