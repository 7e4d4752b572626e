import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { openRows, type Row } from "../../src/node/rows.ts";
import { PARQUET } from "./parquet.ts";

const folder = mkdtempSync(join(tmpdir(), "simcse-rows-"));
afterAll(() => rmSync(folder, { recursive: true }));

function write(name: string, content: string | Uint8Array): string {
  const file = join(folder, name);
  writeFileSync(file, content);
  return file;
}

async function rowsOf(file: string, columns?: string[]): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const row of (await openRows(file, columns)).rows) rows.push(row);
  return rows;
}

async function cells(name: string, content: string | Uint8Array, columns?: string[]) {
  return (await rowsOf(write(name, content), columns)).map((row) => row.cells);
}

test("text is a sentence a line, with documents between blank lines", async () => {
  const rows = await rowsOf(write("a.txt", "\uFEFFone\r\n two \n\n\n\tthree\nfour"));
  expect(rows).toEqual([
    { cells: ["one"], line: 1, begins: true },
    { cells: ["two"], line: 2, begins: false },
    { cells: ["three"], line: 5, begins: true },
    { cells: ["four"], line: 6, begins: false },
  ]);
});

test("CSV is RFC 4180: quoted commas, line ends and quotation marks, and the line a record begins at", async () => {
  const csv =
    'sent0,sent1\r\n"a, b","say ""hi"""\r\n\r\n"two\r\nlines",plain "text"\n"",\nlast,row';
  const rows = await rowsOf(write("a.csv", csv));
  expect(rows.map((row) => [row.line, ...row.cells])).toEqual([
    [2, "a, b", 'say "hi"'],
    [4, "two\r\nlines", 'plain "text"'],
    [6, "", ""],
    [7, "last", "row"],
  ]);
});

test("whatever cells are written as RFC 4180 says come back", async () => {
  const cell = fc.string({ unit: fc.constantFrom("a", '"', ",", "\n", "\r", "漢", " ") });
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(cell, cell), { maxLength: 8 }), async (table) => {
      const quote = (text: string): string => `"${text.replaceAll('"', '""')}"`;
      const csv = [["x", "y"], ...table].map((row) => `${row.map(quote).join(",")}\r\n`).join("");
      expect(await cells("property.csv", csv)).toEqual(table);
    }),
  );
});

test("a CSV longer than one read keeps every cell", async () => {
  const table = Array.from({ length: 20_000 }, (_, i) => [`é漢😀 "${i}"`, `line\n${i}, end`]);
  const csv = table.map(([a, b]) => `"${a!.replaceAll('"', '""')}","${b}"`).join("\n");
  expect(await cells("long.csv", `x,y\n${csv}`)).toEqual(table);
});

test("TSV takes a quotation mark as text", async () => {
  expect(await cells("a.tsv", 'x\ty\na "quote\tb\r\n"c"\td\n')).toEqual([
    ['a "quote', "b"],
    ['"c"', "d"],
  ]);
});

test("JSON Lines give strings by name; null and absent ones are empty", async () => {
  expect(
    await cells("a.jsonl", '{"x":"1","y":"2"}\n\n{"y":null,"z":3}\n{"x":"\\u6f22"}\n', ["y", "x"]),
  ).toEqual([
    ["2", "1"],
    ["", ""],
    ["", "漢"],
  ]);
});

test("columns are chosen by name, in the order asked for", async () => {
  const csv = "id,sent0,sent1,label,hard_neg\n1,a,b,x,c\n";
  expect(await cells("b.csv", csv, ["sent0", "sent1", "hard_neg"])).toEqual([["a", "b", "c"]]);
  await expect(openRows(join(folder, "b.csv"), ["sent2"])).rejects.toThrow(
    "b.csv: expected a column sent2, found id, sent0, sent1, label, hard_neg",
  );
  await expect(openRows(join(folder, "b.csv"))).rejects.toThrow(
    "found 5 (id, sent0, sent1, label, hard_neg); choose with --columns",
  );
});

test.each([
  ["gz", gzipSync],
  ["zst", zstdCompressSync],
])("files that end in .%s are decompressed", async (extension, compress) => {
  expect(await cells(`a.csv.${extension}`, compress("x\na\nb\n"))).toEqual([["a"], ["b"]]);
  const cut = compress("x\n".repeat(5000)).subarray(0, 14);
  await expect(cells(`cut.csv.${extension}`, cut)).rejects.toThrow(FormatError);
  await expect(cells(`plain.txt.${extension}`, "not compressed at all")).rejects.toThrow(
    "damaged compressed data",
  );
});

test.each(Object.keys(PARQUET) as (keyof typeof PARQUET)[])(
  "Parquet compressed by %s gives its columns, and null as empty",
  async (codec) => {
    const bytes = Buffer.from(PARQUET[codec], "base64");
    expect(await cells(`${codec}.parquet`, bytes, ["sent1", "sent0"])).toEqual([
      ["a dog", "a cat"],
      ["b", "naïve 漢"],
      ["c", ""],
    ]);
    await expect(cells(`${codec}.parquet`, bytes)).rejects.toThrow(
      `${codec}.parquet:1: id: expected a string, found bigint; choose columns of text with --columns`,
    );
  },
);

test.each([
  ["a.docx", "x", "a.docx: expected a name that ends in .txt, .csv"],
  ["e.csv", "", "e.csv: expected a line with the names of columns"],
  ["c.csv", "x,y\na,b\nc\n", "c.csv:3: expected 2 cells (x, y), found 1"],
  ["d.csv", 'x\na\n"b\nc\n', "d.csv:3: the quotation mark that opens a cell has no other"],
  [
    "f.csv",
    'x\n"a" b\n',
    'f.csv:2: expected a comma or the end of the line after a quoted cell, found " "',
  ],
  ["c.tsv", "x\ty\na\tb\tc\n", "c.tsv:2: expected 2 cells (x, y), found 3"],
  ["b.jsonl", '{"x":"a"}\n[1]\n', "b.jsonl:2: expected a JSON object, found [1]"],
  ["c.jsonl", '{"x":"a"}\n{"x"\n', "c.jsonl:2: expected a JSON object;"],
  ["d.jsonl", '{"x":7}\n', "d.jsonl:1: x: expected a string, found number"],
  ["b.parquet", "no parquet at all", "b.parquet: expected Parquet with columns of strings;"],
  ["b.txt", "a\0b", "b.txt:1: found a NUL"],
])("a broken %s is an error that says where", async (name, content, message) => {
  await expect(cells(name, content)).rejects.toThrow(FormatError);
  await expect(cells(name, content)).rejects.toThrow(message);
});

test("a file that is missing is an error that names it", async () => {
  for (const name of ["absent.txt", "absent.csv.gz"]) {
    const file = join(folder, name);
    await expect(rowsOf(file)).rejects.toThrow(`${file}: expected UTF-8 text`);
  }
});
