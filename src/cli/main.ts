#!/usr/bin/env node
import { version } from "../node/package.ts";

// Asked by every script that installs things: answered before the commands are loaded.
if (process.argv[2] === "--version") console.log(version());
else await (await import("./program.ts")).run();
