import { existsSync } from "node:fs";
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

let project: TinyProject;
let worker: RunningWorker;
let browser: Browser;
let page: Page;
/** What the browser complains about: console errors, exceptions, refusals of the content security policy. */
let complaints: string[];

beforeAll(async () => {
  if (executablePath === undefined) return;
  project = await makeTinyProject();
  worker = await startWorker(project.directory, { variables: { PUBLIC: "true" } });
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
    /^7 sentences, nearest first, in \d+ ms$/,
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
    await page.getByRole("button", { name: "Compare" }).press("Enter");
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
      /^3 sentences compared in \d+ ms$/,
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

it("says so when the server cannot be reached", async () => {
  await page.context().setOffline(true);
  await search("cat");
  await page.getByText("cannot be reached").waitFor();
  await page.context().setOffline(false);
});

it("nothing is wider than a telephone, and both colour schemes have readable contrast", async () => {
  await page.setViewportSize({ width: 320, height: 640 });
  await search(SENTENCES[6]!);
  await results().first().waitFor();
  await page.getByLabel("Compare sentences").fill(SENTENCES.join("\n"));
  await page.getByRole("button", { name: "Compare" }).click();
  await page.getByRole("table").waitFor();
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(320);
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    for (const selector of [
      "#info",
      "#status",
      ".text",
      ".score",
      "button",
      "caption",
      ".cosine",
    ]) {
      const [text, own, body] = await page
        .locator(selector)
        .first()
        .evaluate((element) => {
          const { color, backgroundColor } = getComputedStyle(element);
          return [color, backgroundColor, getComputedStyle(document.body).backgroundColor] as const;
        });
      const behind = own === "rgba(0, 0, 0, 0)" ? body : own;
      expect([colorScheme, selector, contrast(text, behind) >= 4.5]).toEqual([
        colorScheme,
        selector,
        true,
      ]);
    }
  }
});

describe("of a server with keys", () => {
  const key = makeKey();
  let keyed: RunningWorker;

  beforeAll(async () => {
    if (executablePath === undefined) return;
    keyed = await startWorker(project.directory, { variables: { API_KEY_HASHES: hashOf(key) } });
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

/** Contrast ratio of two colours as browsers print them (WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio). */
function contrast(one: string, other: string): number {
  const [dark, light] = [luminance(one), luminance(other)].toSorted((a, b) => a - b);
  return (light! + 0.05) / (dark! + 0.05);
}

function luminance(color: string): number {
  const most = color.startsWith("color(srgb") ? 1 : 255;
  const [r, g, b] = (color.match(/[\d.]+/g) ?? []).map((channel) => {
    const c = Number(channel) / most;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
}
