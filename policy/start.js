#!/usr/bin/env node
// Starts the policy pack: as the main file of its directory, which Pulumi's language host for Node.js runs, or as an executable, which
// needs no language host.

const { enableCompileCache } = require("node:module");
const { dirname, join } = require("node:path");

// Without this, tsx would run whatever it finds in a directory in the shared temporary directory. Any local user can create that first.
process.env.TSX_DISABLE_CACHE = "1";

// Node.js 22 and later can keep what V8 compiles. The next preview then starts 0.2 seconds sooner.
enableCompileCache?.(join(dirname(require.resolve("tsx/package.json")), "..", ".cache", "node"));

require("tsx/cjs");

// The SDK reads package.json in the current directory.
process.chdir(__dirname);

require("./pack.ts").serve();
