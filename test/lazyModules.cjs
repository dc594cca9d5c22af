// Preloaded by the processes of the tests, and by the programs that Pulumi starts in them. Pulumi's SDK loads TypeScript
// and npm's Arborist to serialize functions, which this project never does, and which takes longer than most tests: here
// it loads them when it uses them.

const Module = require("node:module");

const { _load: load } = Module;

Module._load = function (name, parent, ...others) {
  const loadNow = () => load.call(this, name, parent, ...others);
  const isUnused = name === "typescript" || name === "@npmcli/arborist";
  return isUnused && parent?.filename.includes("/@pulumi/pulumi/") ? whenUsed(loadNow) : loadNow();
};

/** Returns a module that is loaded when one of its properties is read. */
function whenUsed(load) {
  let loaded;
  return new Proxy(
    {},
    {
      get(_, property) {
        // The SDK asks for this when it imports a module.
        if (property === "__esModule") return true;
        loaded ??= load();
        return loaded[property];
      },
    },
  );
}
