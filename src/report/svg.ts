/**
 * Charts as SVG text: the same numbers give the same bytes, in any runtime. Text and axes take the colour of the page, marks
 * the custom properties `--chart-1` to `--chart-6`; each chart says in words what it shows.
 */

export interface Point {
  readonly x: number;
  readonly y: number;
}

/** What every chart needs. */
export interface ChartOptions {
  readonly title: string;
  /** For those who do not see it: what the axes are, and what the marks say. */
  readonly description: string;
  readonly x: string;
  readonly y: string;
}

const WIDTH = 640;
const HEIGHT = 280;
const LEFT = 64;
const RIGHT = 16;
const TOP = 32;
const BOTTOM = 44;
/** About what a character of a legend takes. */
const LETTER = 6.5;
/** Points a curve is drawn with: about two for each unit of its width. */
const MOST_POINTS = 1200;

/** Curves over a common axis, each under its name; with `level`, a dashed line at a value to compare with. */
export function lineChart(
  given: readonly { readonly name: string; readonly points: readonly Point[] }[],
  options: ChartOptions & { readonly level?: { readonly name: string; readonly y: number } },
): string {
  const { level } = options;
  const curves = given.map(({ name, points }) => ({ name, points: points.filter(isFinitePoint) }));
  const all = curves.flatMap(({ points }) => points);
  const ys = all.map(({ y }) => y).concat(level ? [level.y] : []);
  const frame = makeFrame(
    all.map(({ x }) => x),
    ys,
    options,
  );
  const lines = curves.map(({ points }, i) => {
    const path = thin(points).map(({ x, y }) => `${frame.x(x)},${frame.y(y)}`);
    return `<polyline points="${path.join(" ")}" fill="none" stroke="${colour(i)}" stroke-width="1.5"/>`;
  });
  const dashed =
    level &&
    `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${frame.y(level.y)}" y2="${frame.y(level.y)}" stroke="currentColor" stroke-dasharray="4 4"/>` +
      `<text x="${WIDTH - RIGHT}" y="${frame.y(level.y) - 4}" text-anchor="end">${escapeXml(level.name)}</text>`;
  return frame.wrap(lines.join("") + legend(curves.map(({ name }) => name)) + (dashed ?? ""));
}

/** Ways, each under its name: points that a line connects in their order, the first hollow; `label` names each on hover. */
export function scatterPaths(
  given: readonly {
    readonly name: string;
    readonly points: readonly (Point & { readonly label: string })[];
  }[],
  options: ChartOptions,
): string {
  const ways = given.map(({ name, points }) => ({ name, points: points.filter(isFinitePoint) }));
  const all = ways.flatMap(({ points }) => points);
  const frame = makeFrame(
    all.map(({ x }) => x),
    all.map(({ y }) => y),
    options,
  );
  const drawn = ways.map(({ points }, way) => {
    const path = points.map(({ x, y }) => `${frame.x(x)},${frame.y(y)}`).join(" ");
    const marks = points.map(
      ({ x, y, label }, i) =>
        `<circle cx="${frame.x(x)}" cy="${frame.y(y)}" r="4" stroke="${colour(way)}" ` +
        `fill="${i === 0 ? "none" : colour(way)}"><title>${escapeXml(label)}</title></circle>`,
    );
    return `<polyline points="${path}" fill="none" stroke="${colour(way)}" opacity="0.5"/>${marks.join("")}`;
  });
  return frame.wrap(drawn.join("") + legend(ways.map(({ name }) => name)));
}

/** Points, each under its name. */
export function scatter(
  given: readonly (Point & { readonly name: string })[],
  options: ChartOptions,
): string {
  const points = given.filter(isFinitePoint);
  const frame = makeFrame(
    points.map(({ x }) => x),
    points.map(({ y }) => y),
    options,
  );
  const marks = points.map(({ x, y, name }, i) => {
    const [left, top] = [frame.x(x), frame.y(y)];
    const right = left > WIDTH / 2;
    return (
      `<circle cx="${left}" cy="${top}" r="5" fill="${colour(i)}"><title>${escapeXml(`${name}: ${spell(x)}, ${spell(y)}`)}</title></circle>` +
      `<text x="${left + (right ? -9 : 9)}" y="${top + 4}" text-anchor="${right ? "end" : "start"}" fill="${colour(i)}">${escapeXml(name)}</text>`
    );
  });
  return frame.wrap(marks.join(""));
}

/** A square of values in [-1, 1] between items, numbered from 1 and named on hover; the stronger, the nearer to ±1. */
export function heatMap(
  names: readonly string[],
  values: readonly (readonly number[])[],
  { title, description }: Pick<ChartOptions, "title" | "description">,
): string {
  const cell = 36;
  const side = cell * (names.length + 1);
  const labels = names.map((_, i) => {
    const at = cell * (i + 1.5);
    return `<text x="${at}" y="${cell - 8}" text-anchor="middle">${i + 1}</text><text x="${cell - 8}" y="${at + 4}" text-anchor="end">${i + 1}</text>`;
  });
  const cells = values.flatMap((row, i) =>
    row.map((value, j) => {
      const [x, y] = [cell * (j + 1), cell * (i + 1)];
      // At most so strong that the number stays legible on it.
      const strength = round(Math.abs(value) * 5) / 10;
      return (
        `<g><title>${escapeXml(`${value.toFixed(3)}: ${names[i]} | ${names[j]}`)}</title>` +
        `<rect x="${x}" y="${y}" width="${cell - 1}" height="${cell - 1}" fill="${colour(value < 0 ? 1 : 0)}" fill-opacity="${strength}"/>` +
        `<text x="${x + cell / 2}" y="${y + cell / 2 + 4}" text-anchor="middle">${value.toFixed(2)}</text></g>`
      );
    }),
  );
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${side} ${side}" role="img" font-family="system-ui, sans-serif" font-size="11" fill="currentColor">` +
    `<title>${escapeXml(title)}</title><desc>${escapeXml(description)}</desc>${labels.join("")}${cells.join("")}</svg>`
  );
}

/** Bars from 0 up: `counts[i]` of the value i. */
export function histogram(counts: readonly number[], options: ChartOptions): string {
  const frame = makeFrame([-0.5, counts.length - 0.5], [0, ...counts], options);
  const bars = counts.map((count, i) => {
    const left = frame.x(i - 0.4);
    const top = frame.y(count);
    const width = round(frame.x(i + 0.4) - left);
    const height = round(frame.y(0) - top);
    const title = `<title>${i}: ${count}</title>`;
    return `<rect x="${left}" y="${top}" width="${width}" height="${height}" fill="${colour(0)}">${title}</rect>`;
  });
  return frame.wrap(bars.join(""));
}

/** Names in the colours of their marks, above the frame; of a single one the title says enough. */
function legend(names: readonly string[]): string {
  if (names.length < 2) return "";
  const width = Math.min(150, (WIDTH - LEFT - RIGHT) / names.length);
  // As many characters as fit; a name is whole on hover.
  const most = Math.floor(width / LETTER) - 1;
  const texts = names.map((name, i) => {
    const shown = name.length > most ? `…${name.slice(1 - most)}` : name;
    return `<text x="${round(LEFT + 8 + width * i)}" y="${TOP - 4}" fill="${colour(i)}">${escapeXml(shown)}<title>${escapeXml(name)}</title></text>`;
  });
  return texts.join("");
}

export function escapeXml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

interface Frame {
  x(value: number): number;
  y(value: number): number;
  wrap(marks: string): string;
}

function makeFrame(xs: readonly number[], ys: readonly number[], options: ChartOptions): Frame {
  const across = makeAxis(xs, LEFT, WIDTH - RIGHT);
  const up = makeAxis(ys, HEIGHT - BOTTOM, TOP);
  const { title, description } = options;
  const grid = up.ticks.map(
    (tick) =>
      `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${up.at(tick)}" y2="${up.at(tick)}" stroke="currentColor" opacity="0.15"/>` +
      `<text x="${LEFT - 8}" y="${up.at(tick) + 4}" text-anchor="end">${spell(tick)}</text>`,
  );
  const below = across.ticks.map(
    (tick) =>
      `<text x="${across.at(tick)}" y="${HEIGHT - BOTTOM + 16}" text-anchor="middle">${spell(tick)}</text>`,
  );
  const middle = (TOP + HEIGHT - BOTTOM) / 2;
  const names =
    `<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 8}" text-anchor="middle">${escapeXml(options.x)}</text>` +
    `<text transform="translate(14 ${middle}) rotate(-90)" text-anchor="middle">${escapeXml(options.y)}</text>`;
  return {
    x: across.at,
    y: up.at,
    wrap: (marks) =>
      `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="11" fill="currentColor">` +
      `<title>${escapeXml(title)}</title><desc>${escapeXml(description)}</desc>${grid.join("")}${below.join("")}${names}${marks}</svg>`,
  };
}

/** Round numbers that span the values, and where each value lies between two places of the page. */
function makeAxis(
  values: readonly number[],
  from: number,
  to: number,
): { ticks: number[]; at: (value: number) => number } {
  let low = values.reduce((a, b) => Math.min(a, b), Infinity);
  let high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!(low < high)) {
    const middle = Number.isFinite(low) ? low : 0;
    low = middle - 0.5;
    high = middle + 0.5;
  }
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => power * factor >= rough)!;
  const ticks: number[] = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(i * step);
  return { ticks, at: (value) => round(from + ((to - from) * (value - low)) / (high - low)) };
}

/** Others have no place: the alignment of pairs without a positive one is NaN. */
function isFinitePoint({ x, y }: Point): boolean {
  return Number.isFinite(x) && Number.isFinite(y);
}

/** Means of neighbours, so that a curve of a million points is still a small file. */
function thin(points: readonly Point[]): readonly Point[] {
  const group = Math.ceil(points.length / MOST_POINTS);
  if (group <= 1) return points;
  return Array.from({ length: Math.ceil(points.length / group) }, (_, i) => {
    const some = points.slice(i * group, (i + 1) * group);
    const mean = (value: (point: Point) => number): number =>
      some.reduce((sum, point) => sum + value(point), 0) / some.length;
    return { x: mean(({ x }) => x), y: mean(({ y }) => y) };
  });
}

const COLOURS = ["#2563eb", "#d97706", "#16a34a", "#dc2626", "#9333ea", "#0d9488"] as const;

function colour(i: number): string {
  const own = i % COLOURS.length;
  return `var(--chart-${own + 1}, ${COLOURS[own]})`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function spell(value: number): string {
  const text = String(Number(value.toPrecision(6)));
  return text.length > 7 ? value.toExponential(1) : text;
}
