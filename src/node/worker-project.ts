/** Worker projects: folders that `wrangler deploy` takes as they are, and that run here in the same runtime. */
import { copyFile, mkdir, readFile, rm, stat } from "node:fs/promises";
import { basename, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { serializeSafetensors } from "../files/safetensors.ts";
import { readFileOr, writeFileAtomic } from "./files.ts";
