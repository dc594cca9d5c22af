// Compiles the component here: the SDK would do it with the tsconfig.json of the program that uses the component.
require("../scripts/compilerCache.cjs");
require("tsx/cjs");

// With those that are there now, the SDK prints the error of an invalid output once for each resource. It adds others later.
process.removeAllListeners("unhandledRejection");

module.exports = require("./index.ts");
