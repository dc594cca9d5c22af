// Compiles the component here: the SDK would do it with the tsconfig.json of the program that uses the component.
require("../scripts/compilerCache.cjs");
require("tsx/cjs");

// With the listeners of the SDK's host (cmd/run-plugin), the error of an invalid output is printed once for each resource. `main`
// of @pulumi/pulumi/provider, which serves the component, adds its own.
for (const listener of process.listeners("unhandledRejection")) {
  if (listener.name === "uncaughtHandler") process.off("unhandledRejection", listener);
}

module.exports = require("./index.ts");
