/**
 * The seven sentence-similarity tasks of the SimCSE paper, with SentEval's subsets and file formats (Conneau & Kiela 2018,
 * https://arxiv.org/abs/1803.05449), scored as in the paper's tables.
 */
import { FormatError } from "../errors.ts";
import {
  type GradedPair,
  type GradedPairs,
  gradePairs,
  linesBelowHeader,
  numberedLines,
  type PairRow,
  wordOverlap,
} from "./pairs.ts";
import { type BootstrapOptions, bootstrapInterval, pearson, spearman } from "./statistics.ts";

export const STS_TASKS = ["STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R"] as const;
export type StsTask = (typeof STS_TASKS)[number];

/** The yearly tasks have several subsets and only a test split. STS13 has no SMT, whose licence forbids it. */
export const STS_SUBSETS: Readonly<Partial<Record<StsTask, readonly string[]>>> = {
  STS12: ["MSRpar", "MSRvid", "SMTeuroparl", "OnWN", "SMTnews"],
  STS13: ["FNWN", "headlines", "OnWN"],
  STS14: ["deft-forum", "deft-news", "headlines", "images", "OnWN", "tweet-news"],
  STS15: ["answers-forums", "answers-students", "belief", "headlines", "images"],
  STS16: ["answer-answer", "headlines", "plagiarism", "postediting", "question-question"],
};

/** How well cosines order the pairs of a task; correlations times 100. */
export interface StsScore {
  /** Over the pairs of all subsets together ("all"): the figure in the paper's tables. */
  readonly spearman: number;
  /** 95 % bootstrap interval of `spearman`. */
  readonly interval: readonly [low: number, high: number];
  readonly pearson: number;
  /** Mean of the subsets' Spearman correlations. */
  readonly mean: number;
  /** The same, weighted by their pairs, as BERT-flow and BERT-whitening report. */
  readonly wmean: number;
  /** Spearman of the share of common words: the floor under `spearman`. */
  readonly overlap: number;
  readonly pairs: number;
  /** Rows without a gold score, left out. */
  readonly ungraded: number;
  readonly subsets: Readonly<
    Record<string, { readonly spearman: number; readonly pearson: number; readonly pairs: number }>
  >;
}

/** Scores a task by the cosine of each pair. */
export function scoreSts(
  subsets: ReadonlyMap<string, GradedPairs>,
  cosine: (pair: GradedPair) => number,
  bootstrap: BootstrapOptions = {},
): StsScore {
  const parts = [...subsets].map(([name, { pairs }]) => {
    const cosines = pairs.map(cosine);
    const grades = pairs.map(({ score }) => score);
    return {
      name,
      pairs,
      cosines,
      grades,
      spearman: 100 * spearman(cosines, grades),
      pearson: 100 * pearson(cosines, grades),
    };
  });
  const pairs = parts.flatMap((part) => part.pairs);
  const cosines = parts.flatMap((part) => part.cosines);
  const grades = parts.flatMap((part) => part.grades);
  const [low, high] = bootstrapInterval(cosines, grades, bootstrap);
  const sum = (value: (part: (typeof parts)[number]) => number): number =>
    parts.reduce((total, part) => total + value(part), 0);
  return {
    spearman: 100 * spearman(cosines, grades),
    interval: [100 * low, 100 * high],
    pearson: 100 * pearson(cosines, grades),
    mean: sum((part) => part.spearman) / parts.length,
    wmean: sum((part) => part.spearman * part.pairs.length) / pairs.length,
    overlap:
      100 *
      spearman(
        pairs.map(({ a, b }) => wordOverlap(a, b)),
        grades,
      ),
    pairs: pairs.length,
    ungraded: [...subsets.values()].reduce((total, { ungraded }) => total + ungraded, 0),
    subsets: Object.fromEntries(
      parts.map((part) => [
        part.name,
        { spearman: part.spearman, pearson: part.pearson, pairs: part.pairs.length },
      ]),
    ),
  };
}

/**
 * The average of the paper's tables: the mean of the seven scores as printed, with two decimals.
 * @returns undefined unless all seven are there
 */
export function averageScore(scores: readonly (number | undefined)[]): number | undefined {
  const printed = scores.map((score) => Number(score?.toFixed(2)));
  if (printed.some(Number.isNaN)) return undefined;
  return Number((printed.reduce((sum, score) => sum + score, 0) / printed.length).toFixed(2));
}

/**
 * A subset of a year in SentEval's layout: `STS.input.X.txt` with a pair a line and `STS.gs.X.txt` with a score a line, blank
 * where people gave none.
 * @throws FormatError as `gradePairs`, and for files of different length
 */
export function parseStsYear(
  input: { readonly text: string; readonly name: string },
  gold: { readonly text: string; readonly name: string },
): GradedPairs {
  const lines = (text: string): string[] => text.replace(/\r?\n$/, "").split(/\r?\n/);
  const sentences = lines(input.text);
  const scores = lines(gold.text);
  const rows = sentences.map((content, index): PairRow => {
    const [a, b] = tabFields(content, 2, input.name, index + 1);
    return { line: index + 1, score: scores[index] ?? "", a: a!, b: b! };
  });
  if (scores.length !== sentences.length) {
    const [shorter, longer] = scores.length < sentences.length ? [gold, input] : [input, gold];
    const counts = [scores.length, sentences.length].toSorted((x, y) => x - y);
    throw new FormatError(
      `${shorter.name}:${counts[0]}: the file ends here, ${longer.name} has ${counts[1]} lines; ` +
        `expected a score for each pair of sentences`,
    );
  }
  return gradePairs(rows, input.name);
}

/** STS-B in SentEval's layout, `sts-test.csv`: tabs, no header; score and sentences are fields 5, 6 and 7. */
export function parseStsBenchmark(text: string, name: string): GradedPairs {
  const rows = [...numberedLines(text)].map(([line, content]): PairRow => {
    const fields = tabFields(content, 7, name, line);
    return { line, score: fields[4]!, a: fields[5]!, b: fields[6]! };
  });
  return gradePairs(rows, name);
}

/** SICK in SentEval's layout, `SICK_test_annotated.txt`: tabs and a header; sentences and relatedness are fields 2, 3 and 4. */
export function parseSick(text: string, name: string): GradedPairs {
  const rows = linesBelowHeader(text, name).map(([line, content]): PairRow => {
    const fields = tabFields(content, 4, name, line);
    return { line, score: fields[3]!, a: fields[1]!, b: fields[2]! };
  });
  return gradePairs(rows, name);
}

function tabFields(content: string, least: number, name: string, line: number): string[] {
  const fields = content.split("\t");
  if (fields.length >= least) return fields;
  throw new FormatError(
    `${name}:${line}: expected at least ${least} fields with tabs between them, found ${fields.length}`,
  );
}
