import { FormatError } from "../errors.ts";
import {
  gradePairs,
  type GradedPairs,
  pairColumns,
  pairOfObject,
  type PairRow,
  parsePairs,
} from "../evaluate/pairs.ts";
import { openParquet, readText } from "./rows.ts";

/**
 * Reads a file of graded or labelled pairs: Parquet, or what `parsePairs` knows, also as .gz or .zst.
 * @throws FormatError naming file and line or row of what is malformed; Error when the file cannot be read
 */
export async function readPairs(file: string): Promise<GradedPairs> {
  if (!/\.parquet$/i.test(file)) {
    let text = "";
    for await (const chunk of readText(file, "expected graded sentence pairs")) text += chunk;
    return parsePairs(text, file);
  }
  const { names, objects } = await openParquet(file);
  const columns = pairColumns(names);
  if (columns === undefined) {
    throw new FormatError(
      `${file}: expected the columns score, sentence1 and sentence2, found ${names.join(", ")}; rename them`,
    );
  }
  const rows: PairRow[] = [];
  for await (const { object, line } of objects(columns.map((index) => names[index]!))) {
    rows.push(pairOfObject(object, file, line));
  }
  return gradePairs(rows, file);
}
