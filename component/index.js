// Compiles the component here: the SDK would do it with the tsconfig.json of the program that uses the component.
require("../scripts/compilerCache.cjs");
require("tsx/cjs");

module.exports = require("./index.ts");
