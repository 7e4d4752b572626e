import { AsyncLocalStorage } from "node:async_hooks";
import { styleText } from "node:util";

const listeners = new AsyncLocalStorage<(text: string) => void>();

/** Runs a command for a program, which gets its notes in place of stderr. */
export function listening<T>(listen: (text: string) => void, run: () => T): T {
  return listeners.run(listen, run);
}

/** Progress and notes go to stderr: stdout is for results. */
export function note(text: string): void {
  const listen = listeners.getStore();
  if (listen) listen(text);
  else process.stderr.write(`${text}\n`);
}

export function heading(text: string): void {
  note(styleText("bold", text));
}

/** One line that rewrites itself on a terminal, and one line every few seconds elsewhere. */
export class Progress {
  readonly #rewrites = process.stderr.isTTY && listeners.getStore() === undefined;
  readonly #everyMs: number = this.#rewrites ? 100 : 10_000;
  #last = 0;
  #open = false;

  /** Shows a line if the last one is old enough, or if `always`. */
  show(line: () => string, always = false): void {
    const now = Date.now();
    if (!always && now - this.#last < this.#everyMs) return;
    this.#last = now;
    if (this.#rewrites) process.stderr.write(`\r\u001b[2K${line()}`);
    else note(line());
    this.#open = this.#rewrites;
  }

  /** Leaves the last line standing. */
  end(): void {
    if (this.#open) note("");
    this.#open = false;
  }
}

export function count(n: number): string {
  return Math.round(n).toLocaleString("en-US");
}

/** 75 → 1:15. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** Rows of cells, padded into columns; numbers to the right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
        )
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
