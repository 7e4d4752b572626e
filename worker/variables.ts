/** A variable of the environment, as text. */
export type ReadVariable = (name: string) => string | undefined;

/** What stands between spaces or commas. */
export function entriesOf(text = ""): string[] {
  return text.split(/[\s,]+/).filter((entry) => entry !== "");
}
