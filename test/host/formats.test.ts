/** The files that databases load: their bytes by the letter of their formats, and by a PostgreSQL where one is installed. */
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { copyRow, copyRows, pgcopy } from "../../src/files/pgcopy.ts";
import { vectorizeLine } from "../../src/files/vectorize.ts";
import { openModel, readModelFolder } from "../../src/node/model-folder.ts";
import { quantizeEmbeddings } from "../../src/quantize/embeddings.ts";
import { writeTinyModel } from "../worker/tiny-model.ts";
import { needs } from "../needs.ts";

const directory = mkdtempSync(join(tmpdir(), "simcse-formats-"));
const path = (name: string): string => join(directory, name);
afterAll(() => rmSync(directory, { recursive: true }));

const RECORDS = [
  { id: "a-1", text: "a cat sleeps", page: 3 },
  { id: 7, text: "ein Kätzchen, 猫" },
  { text: "a dog\truns\\ along" },
];
let vectors: Float32Array[];
beforeAll(async () => {
  await writeTinyModel(path("model"), "int8");
  const model = await openModel(await readModelFolder(path("model")));
  vectors = model.encode(RECORDS.map(({ text }) => text));
  const lines = RECORDS.map((record) => `${JSON.stringify(record)}\n`);
  writeFileSync(path("in.jsonl"), lines.join(""));
});

function encode(output: string, ...more: string[]): { status: number | null; stderr: string } {
  const args = ["src/cli/main.ts", "encode", path("in.jsonl"), "--model", path("model")];
  const all = [...args, "--output", path(output), "--threads", "1", ...more];
  const { status, stderr } = spawnSync(process.execPath, all, { encoding: "utf8" });
  return { status, stderr };
}

async function bytesOf(parts: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const part of parts) all.push(part);
  return Buffer.concat(all);
}

describe("binary COPY", () => {
  it("has the bytes that PostgreSQL documents", async () => {
    const row = copyRow({
      id: "7",
      text: "ä",
      metadata: { p: 1 },
      embedding: Float32Array.of(1, -2),
    });
    expect((await bytesOf(pgcopy([row]))).toString("hex")).toBe(
      [
        "5047434f50590aff0d0a00", // the signature
        "0000000000000000", // no flags, no extension of the header
        "0004", // columns
        "0000000137", // "7"
        "00000002c3a4", // "ä"
        "00000008017b2270223a317d", // jsonb of version 1: {"p":1}
        "0000000c000200003f800000c0000000", // vector of 2: 1, -2
        "ffff", // the end
      ].join(""),
    );
    const bits = copyRow({ id: "", text: "", metadata: {}, embedding: Uint8Array.of(0x81, 2) });
    expect(Buffer.from(bits).toString("hex").slice(-20)).toBe("00000006000000108102");
  });

  it("refuses NUL and too many dimensions", () => {
    const row = { id: "a", text: "", metadata: {}, embedding: Float32Array.of(1) };
    for (const broken of [
      { ...row, text: "\0" },
      { ...row, metadata: { a: "x\0" } },
      { ...row, embedding: new Float32Array(16_001) },
    ]) {
      expect(() => copyRow(broken)).toThrow(FormatError);
    }
    // A backslash before "u0000" is text.
    expect(() => copyRow({ ...row, metadata: { a: "\\u0000" } })).not.toThrow();
  });

  it("is read again, and refused at any cut", async () => {
    const rows = [1, 2].map((x) =>
      copyRow({ id: `${x}`, text: "t", metadata: {}, embedding: Float32Array.of(x) }),
    );
    const file = await bytesOf(pgcopy(rows));
    expect(copyRows(file, "f").map((row) => [...row])).toEqual(rows.map((row) => [...row]));
    for (let end = 0; end < file.length; end++) {
      expect(() => copyRows(file.subarray(0, end), "f"), `cut at ${end}`).toThrow(FormatError);
    }
  });

  it("is what simcse encode writes to .pgcopy", async () => {
    const { status, stderr } = encode("v.pgcopy");
    expect(status, stderr).toBe(0);
    const rows = [
      { id: "a-1", text: RECORDS[0]!.text, metadata: { page: 3 }, embedding: vectors[0]! },
      { id: "7", text: RECORDS[1]!.text, metadata: {}, embedding: vectors[1]! },
      { id: "2", text: RECORDS[2]!.text, metadata: {}, embedding: vectors[2]! },
    ];
    expect(readFileSync(path("v.pgcopy"))).toEqual(await bytesOf(pgcopy(rows.map(copyRow))));
    const refused = encode("v.pgcopy", "--precision", "int8");
    expect(refused.status).toBe(2);
    expect(refused.stderr).toContain("expected float32 or ubinary for pgcopy");
  });
});

describe("NDJSON of Vectorize", () => {
  it("is what simcse encode writes to .ndjson", () => {
    const { status, stderr } = encode("v.ndjson");
    expect(status, stderr).toBe(0);
    const lines = readFileSync(path("v.ndjson"), "utf8").trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line) as object)).toEqual(
      [
        { id: "a-1", metadata: { text: RECORDS[0]!.text, page: 3 } },
        { id: "7", metadata: { text: RECORDS[1]!.text } },
        { id: "2", metadata: { text: RECORDS[2]!.text } },
      ].map(({ id, metadata }, i) => ({ id, values: [...vectors[i]!], metadata })),
    );
  });

  it("refuses what Vectorize does not take", () => {
    const values = Float32Array.of(1);
    expect(() => vectorizeLine("ä".repeat(33), values, {})).toThrow("64 bytes");
    expect(() => vectorizeLine("a", values, { text: "a".repeat(10_240) })).toThrow("10240 bytes");
  });
});

/** Folder of PostgreSQL's programs, if they are here and may run: they refuse to be root. */
function postgresFolder(): string | undefined {
  const found = ["/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/17/bin", "/usr/local/bin"]; // prettier-ignore
  return found.find((folder) => existsSync(join(folder, "initdb")));
}

it("PostgreSQL loads the file with COPY", (test) => {
  const folder = postgresFolder();
  const root = process.getuid?.() === 0;
  const user = root ? "postgres" : process.env["USER"];
  needs(test, folder, "PostgreSQL");
  needs(test, user && (!root || spawnSync("id", [user]).status === 0), "a user for PostgreSQL");
  const run = (program: string, args: string[], input?: string | Buffer): string => {
    const command = [join(folder, program), ...args];
    const [file, ...rest] = root ? ["setpriv", `--reuid=${user}`, "--clear-groups", ...command] : command; // prettier-ignore
    return execFileSync(file!, rest, { input, stdio: "pipe" }).toString();
  };
  chmodSync(directory, 0o777);
  const data = path("pg");
  const listen = `-c listen_addresses= -c unix_socket_directories=${directory} -c fsync=off`;
  run("initdb", ["-D", data, "-U", "simcse", "-A", "trust", "-E", "UTF8", "--no-sync"]);
  run("pg_ctl", ["-D", data, "-w", "-o", listen, "-l", path("pg.log"), "start"]);
  try {
    const sql = (command: string, input?: Buffer): string =>
      run("psql", ["-h", directory, "-U", "simcse", "-d", "postgres", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", command], input); // prettier-ignore
    expect(encode("v.pgcopy").status).toBe(0);
    expect(encode("b.pgcopy", "--precision", "ubinary").status).toBe(0);
    const columns = "id text, text text, metadata jsonb";
    // Where pgvector is not installed, its column is bytes: the same on the wire.
    const vector = sql("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") === "1\n"; // prettier-ignore
    if (vector) sql("CREATE EXTENSION vector");
    sql(`CREATE TABLE v (${columns}, embedding ${vector ? "vector(64)" : "bytea"})`);
    sql("COPY v FROM STDIN (FORMAT binary)", readFileSync(path("v.pgcopy")));
    expect(sql("SELECT id, text, metadata FROM v ORDER BY ctid")).toBe(
      `a-1|a cat sleeps|{"page": 3}\n7|ein Kätzchen, 猫|{}\n2|a dog\truns\\ along|{}\n`,
    );
    const stored = sql("SELECT embedding FROM v WHERE id = '7'").trim();
    if (vector) {
      expect(Float32Array.from(JSON.parse(stored) as number[])).toEqual(vectors[1]);
    } else {
      const bytes = Buffer.from(stored.slice(2), "hex"); // after \x
      expect(bytes.readInt16BE(0)).toBe(64);
      expect(Float32Array.from({ length: 64 }, (_, i) => bytes.readFloatBE(4 + 4 * i))).toEqual(vectors[1]); // prettier-ignore
    }
    sql(`CREATE TABLE b (${columns}, embedding bit(64))`);
    sql("COPY b FROM STDIN (FORMAT binary)", readFileSync(path("b.pgcopy")));
    const [bits] = quantizeEmbeddings([vectors[0]!], "ubinary");
    const expected = Array.from(bits!, (byte) => byte.toString(2).padStart(8, "0")).join("");
    expect(sql("SELECT embedding FROM b WHERE id = 'a-1'").trim()).toBe(expected);
  } finally {
    run("pg_ctl", ["-D", data, "-m", "immediate", "stop"]);
  }
});
