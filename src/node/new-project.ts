/** A Worker project that is its user's own: the package is one of its dependencies, and every file is theirs to change. */
import { mkdir, readFile } from "node:fs/promises";
import { dirname, join, relative, resolve, sep } from "node:path";
import { UsageError } from "../errors.ts";
import { exists, writeFileAtomic } from "./files.ts";
import { PACKAGE } from "./package.ts";
import { workerName, wranglerConfiguration } from "./worker-project.ts";

/** What a new project is made for. */
export interface NewProject {
  /** A model folder, or the name of a model on a hub. */
  readonly model: string;
  /** What clients call the model, and the Worker; the name of the folder unless told. */
  readonly name?: string;
}

/**
 * Writes a project into a folder, which is made if it is absent. From a clone the project depends on the clone, which
 * `npm run build` must have compiled; from an installed package it depends on the same version.
 * @returns the paths of the files, relative to the folder
 * @throws UsageError naming the files that are there already: none of them is touched
 */
export async function writeNewProject(
  directory: string,
  { model, name = workerName(resolve(directory)) }: NewProject,
): Promise<string[]> {
  const own = JSON.parse(await readFile(join(PACKAGE, "package.json"), "utf8")) as {
    version: string;
    devDependencies: Readonly<Record<string, string>>;
  };
  const local = import.meta.url.endsWith(".ts");
  const path = (target: string): string =>
    relative(resolve(directory), resolve(target)).split(sep).join("/") || ".";
  const folder = (await exists(model)) ? path(model) : model;
  const options = `--model ${quoted(folder)} --name ${quoted(name)} --output .`;
  const manifest = {
    name: workerName(name),
    private: true,
    type: "module",
    scripts: {
      dev: `simcse dev ${options}`,
      deploy: `simcse deploy ${options}`,
      check: "tsc",
    },
    dependencies: { "simcse-edge": local ? `file:${path(PACKAGE)}` : `^${own.version}` },
    devDependencies: Object.fromEntries(TOOLS.map((tool) => [tool, own.devDependencies[tool]])),
    allowScripts: { node: true, esbuild: true, workerd: true },
  };
  const json = (value: object): string => `${JSON.stringify(value, null, 2)}\n`;
  const files: Readonly<Record<string, string>> = {
    "package.json": json(manifest),
    "wrangler.jsonc": json(wranglerConfiguration("src/index.ts", { name })),
    "tsconfig.json": json(TYPES),
    ".gitignore": "node_modules/\n.wrangler/\npublic/\n",
    "README.md": readme(name, folder),
    "src/index.ts": ENTRY,
  };
  const present: string[] = [];
  for (const file of Object.keys(files))
    if (await exists(join(directory, file))) present.push(file);
  if (present.length > 0) {
    throw new UsageError(
      `${directory} has ${present.join(", ")} already; expected a folder without, or none`,
    );
  }
  for (const [file, text] of Object.entries(files)) {
    const target = join(directory, file);
    await mkdir(dirname(target), { recursive: true });
    await writeFileAtomic(target, new TextEncoder().encode(text));
  }
  return Object.keys(files);
}

/** One word of a command, for every shell that npm uses. */
function quoted(word: string): string {
  return /^[\w@./-]+$/.test(word) ? word : JSON.stringify(word);
}

/** What the commands need: `node` is a version of Node that they run on, whatever else is installed. */
const TOOLS = ["node", "typescript", "wrangler"];

const TYPES = {
  compilerOptions: {
    target: "es2024",
    lib: ["es2024", "webworker"],
    module: "esnext",
    moduleResolution: "bundler",
    types: [],
    strict: true,
    skipLibCheck: true,
    noEmit: true,
  },
  include: ["src"],
};

const ENTRY = `import { createWorker } from "simcse-edge/worker";

const model = createWorker();

export default {
  fetch(request: Request): Response | Promise<Response> {
    // Routes of your own go here; all others are the model's.
    return model.fetch(request);
  },
};
`;

const readme = (name: string, model: string): string => `# ${name}

A Cloudflare Worker that serves the sentence-embedding model \`${model}\`.

\`\`\`sh
npm install
npm run dev                                 # here, in Cloudflare's runtime, without a key
npm run check                               # types
npm run deploy -- --dry-run                 # measures it against Cloudflare's limits
npx simcse key                              # a key for clients, and its hash for the Worker
npx wrangler secret put API_KEY_HASHES      # the hash
npm run deploy                              # online
\`\`\`

\`src/index.ts\` is the Worker. \`wrangler.jsonc\` names it and limits the rate of each key. \`npm run dev\` and
\`npm run deploy\` write the page and the model's files to \`public/\`. Once they are there, \`npx wrangler dev --var PUBLIC:true\`
runs the Worker again whenever you change it.
`;
