import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { collectCorpus, readCorpus } from "../../src/node/corpus.ts";

const temporary = mkdtempSync(join(tmpdir(), "simcse-corpus-"));
afterAll(() => rmSync(temporary, { recursive: true }));

let folders = 0;
/** A folder with these files. */
function folder(files: Record<string, string | Uint8Array>): string {
  const root = join(temporary, String(folders++));
  mkdirSync(root);
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  return root;
}

const collect = async (files: Record<string, string>): Promise<readonly string[]> =>
  (await collectCorpus(folder(files))).sentences;

test("Markdown gives the sentences of its paragraphs and lists without their marks", async () => {
  const markdown = `---
title: The front matter of a page is not prose.
---
# A heading is not a sentence of the text
[![The badge of the build](https://ci.example/badge.svg)](https://ci.example)

The **first** paragraph is _wrapped_ over
two lines with a [link to the manual](https://example.com/a_(b)) in it. It names
\`inline code\` and the \`<audio>\` element, e.g. Opera's, in one sentence.

- The item of a list is a sentence of its own.
* \`name\` {string} - The name that an option's description begins with is left out.
1. Every <b>tag</b> of HTML &amp; every entity is taken away from the text.

> [!NOTE]
> A quotation is read like any other paragraph.

| The cells of a table | are not prose of the text. |

\`\`\`js
// The comment in a block of code is not read at all.
\`\`\`

    The indented block of code is not read either.

Three short words. See https://example.com for the rest of the story. Broken in 1f3c2ab by the author of it.
<!-- The comment of a page is not prose to be read. -->`;
  expect(await collect({ "a/readme.md": markdown })).toEqual([
    "The first paragraph is wrapped over two lines with a link to the manual in it.",
    "It names inline code and the audio element, e.g. Opera's, in one sentence.",
    "The item of a list is a sentence of its own.",
    "The name that an option's description begins with is left out.",
    "Every tag of HTML & every entity is taken away from the text.",
    "A quotation is read like any other paragraph.",
  ]);
});

test("doc comments give their prose and that of their tags, and other comments nothing", async () => {
  const source = `
/** Returns the length of the {@link Text | text} in {@link Unit}. */
export declare function length(a: Text): number;
  /**
   * Wraps the lines of a comment
   * into one sentence.
   *
   * @param {string} [name="a"] - The name of the thing to find.
   * @param b whether it is
   *   found by its name or not.
   * @returns {Promise<void>} A promise of the thing that was found.
   * @deprecated Since v3, use the other function for it.
   * @example
   * The example of a comment is code and not prose.
   * @since The first version of the package.
   */
// A comment of one line is not read at all.
/* A comment for the reader of the code is not read either. */
const glob = "src/**/*.ts is not the begin of a comment */";
/** @license The text of a licence is not prose to learn from. */
`;
  expect(await collect({ "a/index.d.ts": source })).toEqual([
    "Returns the length of the text in Unit.",
    "Wraps the lines of a comment into one sentence.",
    "The name of the thing to find.",
    "whether it is found by its name or not.",
    "A promise of the thing that was found.",
    "Since v3, use the other function for it.",
  ]);
});

test("what is said first of a section, a declaration or a parameter stands beside its name in words", async () => {
  const markdown = `
The text before the first heading has no name.
## Usage
A name of one word says too little of it.
## \`readFile(path)\` and **writeFile** ##
The first sentence of a section is the one. The second is not taken.
\`\`\`sh
# A comment of a shell is no heading
\`\`\`
It goes on behind the block of code.
# A heading with more words than there are in a name is a sentence of its own
The section of a long heading has no name.
# [HTTPServer](https://example.com)
The acronym of a name is a word of it.`;
  const source = `
/** Returns the text of the file at a path.
 * @param maxLength - The most bytes that are to be read.
 * @param {number} [startAt=0] Where the first of the bytes is.
 * @param path The place where the file lies.
 * @returns The text of it, or nothing of a file that is not there. */
export declare function read_textFile(path: string): string;
  /** Whether the file may be written to. */
  readonly "is-writable"?: boolean;
/** The last comment is a comment of nothing. */
`;
  const { names } = await collectCorpus(folder({ "a/b.md": markdown, "a/c.d.ts": source }));
  expect(names).toEqual([
    ["The first sentence of a section is the one.", "read file and write file"],
    ["The acronym of a name is a word of it.", "http server"],
    ["Returns the text of the file at a path.", "read text file"],
    ["The most bytes that are to be read.", "max length"],
    ["Where the first of the bytes is.", "start at"],
    ["Whether the file may be written to.", "is writable"],
  ]);
});

const prose = (name: string): string => `/** The ${name} of the file is a sentence to read. */\n`;

test("licences, change logs, minified and large files, this package and linked folders are left out", async () => {
  const root = folder({
    "a/LICENSE.md": "The licence of the package is not a text to learn.",
    "a/CHANGELOG.md": "The change of the version is not a text to learn.",
    "a/dist/a.min.js": prose("first"),
    "a/dist/packed.js": prose("second") + `const a = "${"x".repeat(4000)}";`,
    "a/dist/large.js": prose("third") + "let a;\n".repeat(160_000),
    "a/data.json": prose("fourth"),
    "simcse-edge/src/a.ts": prose("fifth"),
    "b/index.mjs": prose("last"),
  });
  symlinkSync(root, join(root, "b", "loop"));
  expect(await collectCorpus(root)).toEqual({
    files: 1,
    found: 1,
    duplicates: 0,
    sentences: ["The last of the file is a sentence to read."],
    names: [],
  });
});

test("sentences come in the order of paths, and one that differs only in case and spaces comes once", async () => {
  const root = folder({
    "b/a.md": "The second package is read later.\n\nthe FIRST package  is read\nfirst.",
    "a/b.md": "The first package is read first.",
    "a/a.ts": prose("source"),
  });
  expect(await collectCorpus(root)).toEqual({
    files: 3,
    found: 4,
    duplicates: 1,
    sentences: [
      "The source of the file is a sentence to read.",
      "The first package is read first.",
      "The second package is read later.",
    ],
    names: [],
  });
});

test("a folder that is missing or without English is an error that names it", async () => {
  const missing = join(temporary, "missing");
  await expect(collectCorpus(missing)).rejects.toThrow("cannot be read");
  await expect(collectCorpus(missing)).rejects.toThrow(`${missing}: expected a folder of packages`);
  const silent = folder({ "a.md": "Der Satz da steht im falschen Land." });
  await expect(collectCorpus(silent)).rejects.toThrow(FormatError);
  await expect(collectCorpus(silent)).rejects.toThrow(`${silent}: no English sentence in 1`);
});

test("the project's own node_modules give at least 20,000 distinct sentences and 10,000 names", async () => {
  const { sentences, names } = await collectCorpus(join(import.meta.dirname, "../../node_modules"));
  expect(names.length).toBeGreaterThanOrEqual(10_000);
  expect(new Set(sentences.map((sentence) => sentence.toLowerCase())).size).toBe(sentences.length);
  expect(sentences.length).toBeGreaterThanOrEqual(20_000);
});

function file(content: string | Uint8Array): string {
  return join(folder({ "corpus.txt": content }), "corpus.txt");
}

test("a corpus is one sentence a line, without byte-order mark, blank lines and outer spaces", async () => {
  expect(await readCorpus(file("\uFEFFa cat \r\n\r\n\t naïve 漢\n \nlast"))).toEqual([
    "a cat",
    "naïve 漢",
    "last",
  ]);
});

test("a corpus longer than one read keeps every character of every line", async () => {
  const lines = Array.from({ length: 9000 }, (_, i) =>
    `line ${i} ${"é漢😀".repeat(i % 13)}`.trim(),
  );
  expect(await readCorpus(file(lines.join("\n")))).toEqual(lines);
});

test("a corpus that is missing, a folder, empty, binary or not UTF-8 is an error that says so", async () => {
  const missing = join(temporary, "missing.txt");
  await expect(readCorpus(missing)).rejects.toThrow("cannot be read");
  await expect(readCorpus(missing)).rejects.toThrow(
    `${missing}: expected UTF-8 text with one sentence a line, but it cannot be read (ENOENT`,
  );
  await expect(readCorpus(temporary)).rejects.toThrow("EISDIR");
  const cases: [string | Uint8Array, string][] = [
    ["", "found 0 characters without a line of text"],
    ["\n \r\n", "found 4 characters without a line of text"],
    ["a cat\0", ":1: found a NUL"],
    [Uint8Array.of(97, 10, 0xff, 10), ":2: found bytes that are not UTF-8"],
    [Uint8Array.of(97, 10, 97, 0xe6), ":2: found bytes that are not UTF-8"],
  ];
  for (const [content, message] of cases) {
    const path = file(content);
    await expect(readCorpus(path)).rejects.toThrow(FormatError);
    await expect(readCorpus(path)).rejects.toThrow(path);
    await expect(readCorpus(path)).rejects.toThrow(message);
  }
});
