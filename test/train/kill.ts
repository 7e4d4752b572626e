import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { expect } from "vitest";

/** Runs the command, and kills it once the file is there, which it must still be running to see. */
export async function killOnceWritten(args: readonly string[], file: string): Promise<void> {
  const child = spawn(process.execPath, ["src/cli/main.ts", ...args], { stdio: "ignore" });
  const end = once(child, "close");
  while (child.exitCode === null && !existsSync(file)) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  child.kill("SIGKILL");
  expect((await end)[1]).toBe("SIGKILL");
}
