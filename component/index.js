// Compiles the component here: the SDK would do it with the tsconfig.json of the program that uses the component.
require("../scripts/compilerCache.cjs");
require("tsx/cjs");

// With these, the SDK prints the error of an invalid output once for each resource. Those of its provider remain to be added.
process.removeAllListeners("unhandledRejection");

module.exports = require("./index.ts");
