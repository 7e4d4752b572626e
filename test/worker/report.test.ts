import { existsSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import { type Browser, chromium } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { makeTinyProject, SENTENCES, type TinyProject } from "./tiny-model.ts";
import { needs } from "../needs.ts";

const executablePath = [
  process.env["CHROMIUM_PATH"],
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
].find((path) => path !== undefined && existsSync(path));

let project: TinyProject;
let browser: Browser;
let folder: string;
const at = (...names: string[]): string => join(folder, ...names);
const graded = SENTENCES.flatMap((a, i) =>
  SENTENCES.map((b, j) => `${i === j ? 5 : (i * j) % 5}\t${a}\t${b}`),
);

function report(...more: string[]): { code: number | null; errors: string } {
  const model = join(project.directory, "model");
  // prettier-ignore
  const args = ["report", "--model", model, `glove:${at("words.txt")}`, "--data", folder, "--tasks", "STS-B", "--output", at("report.html"), ...more];
  const { status, stderr } = spawnSync(process.execPath, ["src/cli/main.ts", ...args], {
    encoding: "utf8",
  });
  return { code: status, errors: stderr };
}

beforeAll(async () => {
  project = await makeTinyProject();
  folder = await mkdtemp(join(tmpdir(), "simcse-report-"));
  const words = [
    ...new Set(SENTENCES.flatMap((text) => text.toLowerCase().match(/\p{L}+/gu) ?? [])),
  ];
  const vectors = words.map(
    (word, i) => `${word} ${Math.sin(i)} ${Math.cos(2 * i)} ${Math.sin(5 * i)}`,
  );
  await writeFile(at("words.txt"), vectors.join("\n"));
  await writeFile(at("sentences.txt"), SENTENCES.join("\n"));
  await mkdir(at("stsb"));
  await writeFile(at("stsb", "test.tsv"), graded.join("\n"));
  const metrics = [1, 2].map((step) =>
    JSON.stringify({ step, spearman: 50, alignment: 0.3 / step, uniformity: -step }),
  );
  await writeFile(at("metrics.jsonl"), metrics.join("\n"));
  if (executablePath !== undefined)
    browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
});
afterAll(async () => {
  await browser?.close();
  await project?.remove();
  await rm(folder, { recursive: true, force: true });
});

it("the report opens without the network, with every figure titled, legible in light and dark", async (context) => {
  const { code, errors } = report("--sentences", at("sentences.txt"), "--runs", folder);
  expect(code, errors).toBe(0);
  needs(context, executablePath, "chromium");
  const page = await browser.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("request", (request) => {
    if (!request.url().startsWith("file:")) complaints.push(request.url());
  });
  await page.goto(pathToFileURL(at("report.html")).href);
  const titles = await page.locator("figure svg > title").allTextContents();
  expect(titles.map((title) => title.split(/,| of/)[0])).toEqual([
    "Alignment and uniformity",
    "Singular values",
    "Cosines by grade",
    "Cosines by grade",
    "Training",
    "Cosines",
    "Cosines",
  ]);
  for (const text of await page.locator("figure svg > desc").allTextContents()) {
    expect(text.length).toBeGreaterThan(20);
  }
  expect(await page.getByText("published: SimCSE-BERT-base (unsupervised)").count()).toBe(1);
  expect(await page.getByText("paired bootstrap").count()).toBe(1);
  expect(await page.locator("ol li").allTextContents()).toEqual(SENTENCES);
  expect(await page.locator("img").count()).toBe(0);
  expect(
    await page
      .locator("svg")
      .last()
      .locator("text", { hasText: /^1\.00$/ })
      .count(),
  ).toBe(SENTENCES.length);
  await page.setViewportSize({ width: 320, height: 640 });
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(320);
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    // A canvas turns any colour into red, green and blue.
    const ratios = await page.evaluate(() => {
      const context2d = document
        .createElement("canvas")
        .getContext("2d", { willReadFrequently: true })!;
      const luminance = (colour: string): number => {
        context2d.fillStyle = colour;
        context2d.fillRect(0, 0, 1, 1);
        const [r, g, b] = Array.from(context2d.getImageData(0, 0, 1, 1).data, (channel) => {
          const c = channel / 255;
          return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
      };
      const probe = document.body.appendChild(document.createElement("i"));
      probe.style.color = "Canvas";
      const behind = luminance(getComputedStyle(probe).color);
      return [...document.querySelectorAll("svg text, td, h1")].map((element) => {
        const style = getComputedStyle(element);
        const own = luminance(element instanceof SVGElement ? style.fill : style.color);
        const [dark, light] = [own, behind].toSorted((a, b) => a - b);
        return (light! + 0.05) / (dark! + 0.05);
      });
    });
    expect(ratios.length).toBeGreaterThan(50);
    expect(Math.min(...ratios), colorScheme).toBeGreaterThanOrEqual(4.5);
  }
  expect(complaints).toEqual([]);
  await page.close();
});

it("refuses more sentences than a heat map can show, and a folder that is no run", async () => {
  await writeFile(
    at("many.txt"),
    Array.from({ length: 25 }, (_, i) => `Sentence ${i}.`).join("\n"),
  );
  const many = report("--sentences", at("many.txt"));
  expect(many.errors).toContain("expected at most 24 lines, found 25");
  expect(many.code).toBe(2);
  expect(report("--runs", at("absent")).errors).toContain("expected the metrics of a training run");
});
