#!/usr/bin/env node
// Starts the policy pack: as the main file of its directory, which Pulumi's language host for Node.js runs, or as an executable, which
// needs no language host.
require("../scripts/compilerCache.cjs");
require("tsx/cjs");

// The SDK reads package.json in the current directory.
process.chdir(__dirname);

require("./pack.ts").serve();
