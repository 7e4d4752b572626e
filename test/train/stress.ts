/**
 * Training runs killed at random moments, and resumed by teams of other sizes until they end, must have the bits of runs that nobody
 * killed: `npm run stress -- --kills 200 --seed 1`. Real processes, real signals.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { RandomStream } from "../../src/train/random.ts";
import { sentences } from "./text.ts";

const CHECKPOINT_EVERY = 3;

/** What is trained, by the name that a failure gives it. */
const KINDS: Readonly<Record<string, readonly string[]>> = {
  // prettier-ignore
  "an encoder, scored": ["--model", "encoder", "--dev", "dev.tsv", "--eval-every", "20", "--steps", "160"],
  // prettier-ignore
  "a static model, averaged, in chunks": ["--model", "static", "--neighbours", "1", "--ema", "0.99", "--chunk-size", "5", "--steps", "300"],
  // prettier-ignore
  "an encoder that guesses words, two batches a step": ["--model", "encoder", "--mlm-weight", "0.1", "--accumulate", "2", "--steps", "80"],
};

export interface StressReport {
  readonly kills: number;
  /** Kills before the first step of a process. */
  readonly early: number;
  /** Runs that were killed and came to their end. */
  readonly runs: number;
}

/**
 * Kills at least `kills` processes, and lets the run at hand end.
 * @throws Error for a run that lost more than the steps since its checkpoint, or whose files are others than without kills
 */
export async function stress(
  kills: number,
  seed: number,
  log: (line: string) => void,
): Promise<StressReport> {
  const folder = mkdtempSync(join(tmpdir(), "simcse-stress-"));
  const random = new RandomStream(seed, 0);
  const main = join(process.cwd(), "src/cli/main.ts");
  // prettier-ignore
  const command = (kind: string, output: string, threads: number): string[] => [
    main, "train", "--corpus", "corpus.txt", "--output", output, ...KINDS[kind]!, "--batch-size", "16", "--learning-rate", "1e-3",
    "--threads", String(threads), "--checkpoint-every", String(CHECKPOINT_EVERY), "--resume",
  ];
  const run = (...args: string[]): void => {
    const { status, stderr } = spawnSync(process.execPath, args, { cwd: folder, encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
  };
  writeFileSync(join(folder, "corpus.txt"), sentences(400, 3).join("\n"));
  const [left, right] = [sentences(30, 4), sentences(30, 5)];
  const pairs = left.map((sentence, i) => `${random.below(6)}\t${sentence}\t${right[i]}`);
  writeFileSync(join(folder, "dev.tsv"), pairs.join("\n"));
  run(main, "vocab", "--corpus", "corpus.txt", "--output", "t.json", "--size", "200");
  const shape = ["--hidden", "64", "--intermediate", "128", "--heads", "4", "--pooling", "cls"];
  run(main, "init", "--tokenizer", "t.json", "--output", "encoder", ...shape);
  // prettier-ignore
  run(main, "init", "--static", "--tokenizer", "t.json", "--corpus", "corpus.txt", "--output", "static", "--hidden", "64");

  const names = Object.keys(KINDS);
  const whole = names.map((kind, i) => {
    const begun = performance.now();
    run(...command(kind, `whole-${i}`, 1));
    return { output: `whole-${i}`, milliseconds: performance.now() - begun };
  });
  const report = { kills: 0, early: 0, runs: 0 };
  // A share of a whole run's time, which follows the load of the machine: half of the processes should be killed.
  let share = 0.25;
  while (report.kills < kills) {
    const kind = names[report.runs % names.length]!;
    const { output: unkilled, milliseconds } = whole[report.runs % names.length]!;
    const output = `killed-${report.runs}`;
    let [own, reached] = [0, 0];
    for (let ended = false; !ended;) {
      const threads = 1 + random.below(3);
      const child = spawn(process.execPath, command(kind, output, threads), {
        cwd: folder,
        stdio: ["ignore", "ignore", "pipe"],
      });
      // Every fourth at any moment from the start of the process on, the others from its first step on.
      let text = "";
      let timer: NodeJS.Timeout | undefined;
      const killWithin = (most: number): void => {
        timer ??= setTimeout(() => child.kill("SIGKILL"), random.uniform() * most);
      };
      if (random.below(4) === 0) killWithin(milliseconds);
      child.stderr.on("data", (chunk: Buffer) => {
        text += chunk.toString();
        if (/step \d+\//.test(text)) killWithin(milliseconds * share);
      });
      const [code, signal] = (await once(child, "close")) as [number | null, string | null];
      clearTimeout(timer);
      const where = `${kind}, ${output} in ${folder}, seed ${seed}`;
      const from = Number(/resumed after step (\d+)/.exec(text)?.[1] ?? 0);
      const saw = Math.max(
        0,
        ...[...text.matchAll(/step (\d+)\//g)].map(([, step]) => Number(step)),
      );
      // The checkpoint of a step is written after the step is reported.
      const kept = CHECKPOINT_EVERY * Math.floor((reached - 1) / CHECKPOINT_EVERY);
      if ((saw > 0 || code === 0) && from < kept) {
        throw new Error(`${where}: resumed after step ${from}, though step ${reached} was reached`);
      }
      reached = Math.max(reached, saw);
      share *= signal === "SIGKILL" ? 1.2 : 0.7;
      if (signal === "SIGKILL") {
        own++;
        if (saw === 0) report.early++;
      } else if (code === 0) {
        ended = true;
      } else {
        throw new Error(`${where}: ended with ${code} and\n${text}`);
      }
    }
    sameFiles(join(folder, unkilled), join(folder, output), `${kind}, seed ${seed}`);
    report.kills += own;
    report.runs++;
    log(`${kind}: ${own} kills, the same bits`);
    rmSync(join(folder, output), { recursive: true });
  }
  rmSync(folder, { recursive: true });
  return report;
}

/** Compares what a run leaves, but for TensorBoard's times and the report, which names its folder. */
function sameFiles(want: string, found: string, where: string): void {
  const files = (path: string): string[] =>
    readdirSync(path, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !/^(events\.|report\.html)/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name).slice(path.length))
      .toSorted();
  const [expected, all] = [files(want), files(found)];
  if (all.join() !== expected.join()) {
    throw new Error(`${where}: ${found} has ${all.join()}, expected ${expected.join()}`);
  }
  for (const file of expected) {
    if (!readFileSync(want + file).equals(readFileSync(found + file))) {
      throw new Error(`${where}: ${found}${file} differs from that of ${want}`);
    }
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      kills: { type: "string", default: "200" },
      seed: { type: "string", default: String(Date.now() % 2 ** 31) },
    },
  });
  const [kills, seed] = [Number(values.kills), Number(values.seed)];
  if (!(kills > 0) || !Number.isInteger(seed)) {
    throw new Error("expected --kills from 1 and --seed a whole number");
  }
  console.log(`seed ${seed}`);
  const begun = performance.now();
  const { early, runs, ...report } = await stress(kills, seed, console.log);
  console.log(
    `${report.kills} kills, ${early} of them before the first step of a process, in ${runs} runs: all ended in the bits of ` +
      `runs that nobody killed; ${((performance.now() - begun) / 1000).toFixed(0)} s`,
  );
}
