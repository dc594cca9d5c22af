// Compiled code that another local user has left in the temporary directory: no way to run this project executes it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { parse } from "yaml";

const ROOT = join(__dirname, "..");
const MARK = "executed code of another user";

const SDK = join(ROOT, "node_modules", "@pulumi", "pulumi");

/** Compiles a file as Pulumi's language host compiles a program. */
const COMPILE = `
  const { tsnodeRequire } = require("${SDK}/tsutils").typeScriptRequireStrings();
  require(tsnodeRequire).register({ transpileOnly: true });
  require("${ROOT}/userError.ts");
`;

interface Way {
  /** Runs it without protection, so that the compiler fills its cache. */
  unprotected: string[];
  protected: string[];
  directory?: string;
}

const TEST = 'require("node:test").test("does nothing", () => {});\n';
const WAYS: Record<string, Way> = {
  "npm start": {
    unprotected: ["node", "--import", "tsx", "simulator/start.ts", "--help"],
    protected: ["npm", "run", "--silent", "start", "--", "--help"],
  },
  "npm test": {
    unprotected: ["node", "--import", "tsx", "test/run.ts", "TEST"],
    protected: ["npm", "run", "--silent", "test", "--", "TEST"],
  },
  "the component": {
    unprotected: ["node", "--eval", 'require("tsx/cjs"); require("./component/index.ts");'],
    protected: ["node", "--eval", 'require("./component");'],
  },
  "the component as a package": {
    unprotected: ["node", "--eval", 'require("tsx/cjs"); require("./component/index.ts");'],
    protected: ["node", join(SDK, "cmd", "run-plugin"), join(ROOT, "component")],
  },
  "the stack": {
    unprotected: ["node", "--eval", COMPILE],
    protected: ["node", ...nodeArguments("Pulumi.yaml"), "--eval", COMPILE],
  },
  "the pipeline's program": {
    unprotected: ["node", "--eval", COMPILE],
    protected: ["node", ...nodeArguments("pipeline/Pulumi.yaml"), "--eval", COMPILE],
    directory: join(ROOT, "pipeline"),
  },
};

for (const [name, way] of Object.entries(WAYS)) {
  test(`${name} executes no compiled code from the temporary directory`, async (t) => {
    const temporary = await mkdtemp(join(tmpdir(), "shared-"));
    t.after(() => rm(temporary, { recursive: true, maxRetries: 3 }));
    const testFile = join(temporary, "empty.test.ts");
    await writeFile(testFile, TEST);
    const run = (command: string[]) => {
      const inserted = command.map((argument) => (argument === "TEST" ? testFile : argument));
      return screenOf(t, temporary, inserted, way.directory ?? ROOT);
    };

    assert.ok(!(await run(way.unprotected)).includes(MARK));
    assert.ok((await replaceCompiledCode(temporary)) > 0, "the compiler has no cache there");
    assert.ok((await run(way.unprotected)).includes(MARK), "the cache is not used");

    assert.ok(!(await run(way.protected)).includes(MARK));
  });
}

// TypeScript would otherwise reject the root that it infers: https://aka.ms/ts6 (TS5011).
test("Pulumi compiles the pipeline's program with the tsconfig.json that its project file names", async (t) => {
  const { tsconfig } = parse(readFileSync(join(ROOT, "pipeline", "Pulumi.yaml"), "utf8")).runtime.options;
  const program = `
    const { tsnodeRequire } = require("${SDK}/tsutils").typeScriptRequireStrings();
    require(tsnodeRequire).register({ project: "${tsconfig}", transpileOnly: true });
    require("./github.ts");
    console.log("compiled");
  `;
  const temporary = await mkdtemp(join(tmpdir(), "shared-"));
  t.after(() => rm(temporary, { recursive: true, maxRetries: 3 }));
  const screen = await screenOf(t, temporary, ["node", "--eval", program], join(ROOT, "pipeline"));
  assert.equal(screen, "compiled\n");
});

/** Returns the arguments of Node.js in a project file. */
function nodeArguments(file: string): string[] {
  const { options } = parse(readFileSync(join(ROOT, file), "utf8")).runtime;
  return options?.nodeargs?.split(" ") ?? [];
}

/** Replaces the compiled code in the directories of tsx and ts-node, and returns the number of files. */
async function replaceCompiledCode(temporary: string): Promise<number> {
  const entries = await readdir(temporary, { recursive: true, withFileTypes: true });
  const files = entries.filter(
    (entry) => entry.isFile() && /\/(tsx|ts-node)-/.test(join(entry.parentPath, "")),
  );
  for (const { parentPath, name } of files) {
    const file = join(parentPath, name);
    const content = await readFile(file, "utf8");
    const foreign = `console.error(${JSON.stringify(MARK)});`;
    // tsx stores the code as a string in JSON.
    const inserted = content.startsWith("{")
      ? JSON.stringify({ ...JSON.parse(content), code: foreign + JSON.parse(content).code })
      : `${foreign}${content}`;
    await writeFile(file, inserted);
  }
  return files.length;
}

/** Runs a command, and returns what it has printed. */
async function screenOf(t: TestContext, temporary: string, command: string[], cwd: string): Promise<string> {
  const [program = "", ...args] = command;
  const { PATH, HOME } = process.env;
  const child = spawn(program, args, {
    cwd,
    env: {
      PATH,
      HOME,
      TMPDIR: temporary,
      PULUMI_NODEJS_TYPESCRIPT: "true",
      PULUMI_NODEJS_TRANSPILE_ONLY: "true",
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.after(() => child.kill());
  // A plugin prints its port, and waits for the engine.
  child.stdout.on("data", (data) => /^\d+\n$/.test(String(data)) && child.kill());
  return (await Promise.all([text(child.stdout), text(child.stderr)])).join("");
}
