/** What all reports share: one HTML file that needs no network, no script and no other file. */
import { escapeXml, lineChart } from "./svg.ts";

/** A page of a heading and a body of HTML. */
export function htmlPage(title: string, body: string): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeXml(title)}</title>
<style>
:root { color-scheme: light dark; --chart-1: light-dark(#2563eb, #7aa8ff); --chart-2: light-dark(#b45309, #fbbf24);
  --chart-3: light-dark(#15803d, #4ade80); --chart-4: light-dark(#b91c1c, #f87171); --chart-5: light-dark(#7e22ce, #c084fc);
  --chart-6: light-dark(#0f766e, #2dd4bf); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1320px; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.5rem; }
figure { margin: 0; } figcaption { text-align: center; } svg { width: 100%; }
th { text-align: left; font-weight: normal; padding-right: 2rem; }
.scores { overflow-x: auto; overflow-wrap: normal; } .scores td, .scores th + th { text-align: right; padding: 0 .5rem; } .published { font-style: italic; }
</style>
<h1>${escapeXml(title)}</h1>
${body}
</html>
`;
}

/** Charts side by side, each with its title below. */
export function figures(charts: readonly string[]): string {
  const drawn = charts.map((chart) => {
    const title = /<title>(.*?)<\/title>/.exec(chart)![1]!;
    return `<figure>${chart}<figcaption>${title}</figcaption></figure>`;
  });
  return `<main>\n${drawn.join("\n")}\n</main>`;
}

/** Singular values by rank, a line for each of several matrices. */
export function spectrumChart(
  spectra: readonly { readonly name: string; readonly spectrum: readonly number[] }[],
): string {
  return lineChart(
    spectra.map(({ name, spectrum }) => ({
      name,
      points: spectrum.map((y, x) => ({ x: x + 1, y })),
    })),
    {
      title: "Singular values",
      description:
        "Singular values of the unit vectors, falling, over the largest; flat is isotropic.",
      x: "rank",
      y: "over the largest",
    },
  );
}
