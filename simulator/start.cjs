// `npm start`. It says which Node.js the simulation requires, so older versions must be able to read this file, too.

// With an older one, the simulation ends in a stack trace, or prints colors into files.
const REQUIRED = [22, 12];

const [major, minor] = process.versions.node.split(".").map(Number);
if (major < REQUIRED[0] || (major === REQUIRED[0] && minor < REQUIRED[1])) {
  console.error(`Node.js ${process.versions.node} is too old: install ${REQUIRED.join(".")} or later.`);
  process.exit(2);
}

require("../scripts/compilerCache.cjs");
require("tsx/cjs");
require("./commandLine.ts");
