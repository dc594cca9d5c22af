#!/usr/bin/env node
// Starts the policy pack: as the main file of its directory, which Pulumi's language host for Node.js runs, or as an executable, which
// needs no language host.

// Without this, tsx would run whatever it finds in a directory in the shared temporary directory. Any local user can create that first.
process.env.TSX_DISABLE_CACHE = "1";

require("tsx/cjs");

// The SDK reads package.json in the current directory.
process.chdir(__dirname);

require("./pack.ts").serve();
