// Keeps compiled code of this project out of the shared temporary directory. tsx and ts-node, which compile the TypeScript
// here, run whatever they find in a directory there with a predictable name. Any local user can create it first.
//
// Whatever starts a compiler loads this file first.

const { enableCompileCache } = require("node:module");
const { join } = require("node:path");

const cache = join(__dirname, "..", "node_modules", ".cache");

// tsx has no setting for the directory. It compiles a file in about a millisecond. The processes that this one starts inherit
// the variable.
process.env.TSX_DISABLE_CACHE = "1";

// ts-node, with which Pulumi runs programs, takes seconds to check the types. Anyone who can write here can change the
// program itself, too. A directory that the environment names wins, such as in an image whose node_modules is read-only.
process.env.TS_NODE_CACHE_DIRECTORY ||= join(cache, "ts-node");

// What V8 compiles is kept, too. A second preview then starts 0.2 seconds sooner.
enableCompileCache(join(cache, "node"));
