import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { hashOf, makeKey } from "../../src/node/keys.ts";
import { type RunningWorker, startWorker } from "../../src/node/worker-run.ts";
import { makeTinyProject, SENTENCES, type TinyProject } from "./tiny-model.ts";
import { needs } from "../needs.ts";

const executablePath = [
  process.env["CHROMIUM_PATH"],
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
].find((path) => path !== undefined && existsSync(path));

const AXE = fileURLToPath(import.meta.resolve("axe-core/axe.min.js"));

let project: TinyProject;
let worker: RunningWorker;
let browser: Browser;
let page: Page;
/** What the browser complains about: console errors, exceptions, refusals of the content security policy. */
let complaints: string[];

beforeAll(async () => {
  if (executablePath === undefined) return;
  project = await makeTinyProject();
  const variables = { PUBLIC: "true", SHARE_MODEL: "true" };
  worker = await startWorker(project.directory, { variables });
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
});
afterAll(async () => {
  await browser?.close();
  await worker?.close();
  await project?.remove();
});

beforeEach(async (context) => {
  needs(context, executablePath, "chromium");
  page = await browser.newPage();
  complaints = [];
  page.on("console", (message) => {
    if (message.type() !== "info" && message.type() !== "log") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  await page.goto(worker.url);
  await page.getByText("dimensions").waitFor();
});
afterEach(async () => {
  await page?.close();
});

const results = () => page.getByRole("listitem");
const search = async (query: string): Promise<void> => {
  await page.getByLabel("Find sentences that mean").fill(query);
  await page.getByRole("button", { name: "Search" }).click();
};

it("tells the model, its dimension and how many sentences there are", async () => {
  expect(await page.locator("#info").textContent()).toBe(
    "simcse-edge · 64 dimensions · 7 sentences",
  );
  expect(complaints).toEqual([]);
});

it("a query shows the nearest sentences, their scores as bars, and the time taken", async () => {
  await search(SENTENCES[0]!);
  await results().first().waitFor();
  expect(await results().count()).toBe(SENTENCES.length);
  expect(await results().first().locator(".text").textContent()).toBe(SENTENCES[0]);
  expect(await results().first().locator(".score").textContent()).toBe("1.000");
  const widths = await page
    .locator(".fill")
    .evaluateAll((bars) => bars.map((bar) => bar.getBoundingClientRect().width));
  expect(widths[0]).toBeGreaterThan(100);
  expect(widths).toEqual(widths.toSorted((a, b) => b - a));
  expect(await page.locator("#status").textContent()).toMatch(
    /^7 sentences, nearest first, in \d+ ms at the edge$/,
  );
  expect(complaints).toEqual([]);
});

it("Enter searches too", async () => {
  await page.getByLabel("Find sentences that mean").fill("cat");
  await page.keyboard.press("Enter");
  await results().first().waitFor();
});

it("a sentence that is markup is shown as text", async () => {
  await search(SENTENCES[6]!);
  await results().first().waitFor();
  expect(await results().first().locator(".text").textContent()).toBe(SENTENCES[6]);
  expect(await page.locator("img").count()).toBe(0);
  expect(await page.title()).toBe("Sentence search");
});

it("an empty query is an error that says what to do, and removes old results", async () => {
  await search("cat");
  await results().first().waitFor();
  await search("   ");
  expect(await page.locator("#status").textContent()).toBe("Type a sentence to search for.");
  expect(await results().count()).toBe(0);
  const query = page.getByLabel("Find sentences that mean");
  expect(await query.getAttribute("aria-invalid")).toBe("true");
  expect(complaints).toEqual([]);
});

it("shows the server's reason when it refuses a query, and recovers", async () => {
  await search("cat ".repeat(200));
  await page.getByText("longer than the model's").waitFor();
  await search("cat");
  await results().first().waitFor();
});

describe("comparing sentences", () => {
  const compare = async (...lines: string[]): Promise<void> => {
    await page.getByLabel("Compare sentences").fill(lines.join("\n"));
    await page.getByRole("button", { name: "Compare", exact: true }).press("Enter");
  };

  it("shows a table of the cosines of the model's vectors, with headers that are read out", async () => {
    const texts = [SENTENCES[0]!, SENTENCES[6]!, SENTENCES[2]!];
    await compare(texts[0]!, "", `  ${texts[1]} `, texts[2]!);
    const table = page.getByRole("table", { name: "Cosine of each sentence with each" });
    await table.waitFor();
    expect(await table.getByRole("columnheader").allTextContents()).toEqual(["1", "2", "3"]);
    expect(await table.getByRole("rowheader").allTextContents()).toEqual(
      texts.map((text, i) => `${i + 1}. ${text}`),
    );
    const vectors = project.model.encode(texts);
    const cosines = vectors.flatMap((one) =>
      vectors.map((other) => one.reduce((sum, x, d) => sum + x * other[d]!, 0).toFixed(2)),
    );
    expect(await table.locator(".cosine").allTextContents()).toEqual(cosines);
    expect(await page.locator("#compare-status").textContent()).toMatch(
      /^3 sentences compared in \d+ ms at the edge$/,
    );
    expect(complaints).toEqual([]);
  });

  it("one sentence is an error that says what to do, and a refusal is shown", async () => {
    await compare("cat");
    await page.getByText("Type 2 to 12 sentences, one a line.").waitFor();
    const field = page.getByLabel("Compare sentences");
    expect(await field.getAttribute("aria-invalid")).toBe("true");
    await compare("cat", "cat ".repeat(200));
    await page.locator("#compare-status").getByText("longer than the model's").waitFor();
    await compare("cat", "dog");
    await page.getByRole("table").waitFor();
    expect(await field.getAttribute("aria-invalid")).toBe("false");
  });
});

describe("in this tab", () => {
  const chooseTab = async (): Promise<void> => {
    await page.getByRole("radio", { name: "at the edge" }).focus();
    await page.keyboard.press("ArrowDown");
    await page.getByText("of model loaded into this tab in").waitFor();
  };

  it("the model is loaded when a key chooses it, and the page says how much that was", async () => {
    await chooseTab();
    expect(await page.getByRole("radio", { name: "in this tab" }).isChecked()).toBe(true);
    expect(await page.locator("#figures").textContent()).toMatch(
      /^\d+\.\d MB of model loaded into this tab in \d+ ms$/,
    );
    expect(complaints).toEqual([]);
  });

  it("search and comparison are those of the edge, and ask the server nothing", async () => {
    const shown = async (): Promise<(string | null)[][]> => {
      await search(SENTENCES[2]!);
      await results().first().waitFor();
      await page.getByLabel("Compare sentences").fill(SENTENCES.slice(0, 4).join("\n"));
      await page.getByRole("button", { name: "Compare", exact: true }).press("Enter");
      await page.getByRole("table").waitFor();
      const texts = (selector: string) => page.locator(selector).allTextContents();
      return [await texts(".text"), await texts(".score"), await texts(".cosine")];
    };
    const edge = await shown();
    await chooseTab();
    const asked: string[] = [];
    page.on("request", (request) => asked.push(request.url()));
    expect(await shown()).toEqual(edge);
    expect(await page.locator("#status").textContent()).toMatch(/ms in this tab$/);
    expect(await page.locator("#compare-status").textContent()).toMatch(/ms in this tab$/);
    expect(asked).toEqual([]);
  });

  it("vectors have the bits of the edge and of Node, and the page says so with both times", async () => {
    await page.getByLabel("Compare sentences").fill(SENTENCES.join("\n"));
    await page.getByRole("button", { name: "Compare the bits" }).press("Enter");
    await page.getByText("equal bit for bit").waitFor();
    expect(await page.locator("#figures").textContent()).toMatch(
      /^7 sentences: the vectors are equal bit for bit; at the edge \d+ ms, in this tab \d+ ms, with \d+\.\d MB of model$/,
    );
    // As text: what transforms this file would replace the import.
    const [edge, tab] = await page.evaluate<string[][]>(`(async () => {
      const { PLACES, post } = await import("/api.js");
      const body = { input: ${JSON.stringify(SENTENCES)}, encoding_format: "base64" };
      const answers = [PLACES.edge, PLACES.tab].map((place) => post("/v1/embeddings", body, place));
      return (await Promise.all(answers)).map(({ data }) => data.map((one) => one.embedding));
    })()`);
    expect(tab).toEqual(edge);
    const node = project.model
      .encode(SENTENCES)
      .map((vector) => Buffer.from(vector.buffer).toString("base64"));
    expect(tab).toEqual(node);
    expect(complaints).toEqual([]);
  });

  it("a text that the server refuses is refused for the same reason", async () => {
    await chooseTab();
    await search("cat ".repeat(200));
    await page.getByText("longer than the model's").waitFor();
  });
});

it("says so when the server cannot be reached", async () => {
  await page.context().setOffline(true);
  await search("cat");
  await page.getByText("cannot be reached").waitFor();
  await page.context().setOffline(false);
});

it("nothing is wider than a telephone, and axe finds no fault in either colour scheme", async () => {
  await page.setViewportSize({ width: 320, height: 640 });
  await search(SENTENCES[6]!);
  await results().first().waitFor();
  await page.getByLabel("Compare sentences").fill(SENTENCES.join("\n"));
  await page.getByRole("button", { name: "Compare", exact: true }).click();
  await page.getByRole("table").waitFor();
  await page.getByRole("button", { name: "Compare the bits" }).click();
  await page.getByText("equal bit for bit").waitFor();
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(320);
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    await page.evaluate(readFileSync(AXE, "utf8"));
    const violations = await page.evaluate(async () => {
      const { axe } = globalThis as unknown as { axe: typeof import("axe-core") };
      const found = (await axe.run()).violations;
      return found.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`));
    });
    expect([colorScheme, violations]).toEqual([colorScheme, []]);
  }
});

describe("of a server with keys", () => {
  const key = makeKey();
  let keyed: RunningWorker;

  beforeAll(async () => {
    if (executablePath === undefined) return;
    const variables = { API_KEY_HASHES: hashOf(key), SHARE_MODEL: "true" };
    keyed = await startWorker(project.directory, { variables });
  });
  afterAll(() => keyed?.close());

  const stored = () => page.evaluate(() => [sessionStorage.getItem("key"), localStorage.length]);

  it("a key in the fragment is used, and taken out of the address", async () => {
    await page.goto(`${keyed.url}/?a=b#key=${key}`);
    await page.getByText("64 dimensions").waitFor();
    expect(page.url()).toBe(`${keyed.url}/?a=b`);
    expect(await page.getByLabel("API key").isVisible()).toBe(false);
    expect(await stored()).toEqual([key, 0]);
    await search(SENTENCES[0]!);
    await results().first().waitFor();
    await page.reload();
    await page.getByText("64 dimensions").waitFor();
    expect(complaints).toEqual([]);
  });

  it("the model comes into the tab with a key only", async () => {
    expect((await fetch(`${keyed.url}/model/manifest.json`)).status).toBe(401);
    await page.goto(`${keyed.url}/#key=${key}`);
    await page.getByRole("button", { name: "Compare the bits" }).click();
    await page.getByText("equal bit for bit").waitFor();
    expect(complaints).toEqual([]);
  });

  it("without one the page asks for it, and again after a wrong one", async () => {
    await page.goto(keyed.url);
    await page.getByText("This server needs an API key.").waitFor();
    const field = page.getByLabel("API key");
    expect(await field.getAttribute("type")).toBe("password");
    for (const wrong of [makeKey(), "schlüssel ☃"]) {
      await field.fill(wrong);
      await page.keyboard.press("Enter");
      await page.getByText("does not accept this API key").waitFor();
      expect(await field.getAttribute("aria-invalid")).toBe("true");
      await search("cat");
      await page.locator("#status").getByText("does not accept this API key").waitFor();
    }
    await field.fill(` ${key} `);
    await page.getByRole("button", { name: "Use key" }).click();
    await page.getByText("64 dimensions").waitFor();
    expect(await field.getAttribute("aria-invalid")).toBe("false");
    expect(await field.inputValue()).toBe("");
    expect(await stored()).toEqual([key, 0]);
    await search(SENTENCES[0]!);
    await results().first().waitFor();
  });
});
