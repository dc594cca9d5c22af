// Preloaded by the processes of the tests, and by the programs that Pulumi starts in them: Pulumi's SDK without the work that
// no test needs, and which takes longer than most tests.

const Module = require("node:module");

const { _load: load } = Module;

Module._load = function (name, parent, ...others) {
  const loadNow = () => load.call(this, name, parent, ...others);
  if (!parent?.filename?.includes("/@pulumi/pulumi/")) return loadNow();

  switch (name) {
    // To serialize functions, which this project never does, the SDK loads TypeScript and npm's Arborist.
    case "typescript":
    case "@npmcli/arborist":
      return whenUsed(loadNow);
    // For the same purpose, it starts a debugger in front of each program.
    case "../../runtime/closure/v8Hooks":
      return { isInitializedAsync: async () => {} };
    case "./debuggable":
      return withoutStackTraces(loadNow());
    default:
      return loadNow();
  }
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

/** The SDK keeps a stack trace for each promise, and to write one, Node.js reads the source maps of the SDK. */
function withoutStackTraces(debuggable) {
  return {
    ...debuggable,
    debuggablePromise(...args) {
      const { stackTraceLimit } = Error;
      Error.stackTraceLimit = 0;
      try {
        return debuggable.debuggablePromise(...args);
      } finally {
        Error.stackTraceLimit = stackTraceLimit;
      }
    },
  };
}
