// Runs the tests with Node's own runner: `node --import tsx test/run.ts [FILE…]`.

import { mkdtemp, readdir, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { saveCertificateAuthority } from "../simulator/certificates";

interface Outcome {
  passed: number;
  failed: number;
  skipped: number;
  filesWithoutTest: string[];
}

/** These take minutes and need the Pulumi CLI: they run with `--engine`, or when named. */
const ENGINE = [
  "credentialHelper.test.ts",
  "engine.test.ts",
  "examplesCli.test.ts",
  "import.test.ts",
  "pipelineEngine.test.ts",
].map((name) => join(__dirname, name));

main(process.argv.slice(2)).then((problem) => {
  if (problem) console.error(`\n${problem}`);
  process.exitCode = problem === undefined ? 0 : 1;
});

async function main(named: string[]): Promise<string | undefined> {
  const files =
    named[0] === "--engine" ? ENGINE : named.length > 0 ? named.map((file) => resolve(file)) : await everyFile();
  const directory = await mkdtemp(join(tmpdir(), "simulation-"));
  try {
    await saveCertificateAuthority(directory);
    // Node.js reads NODE_EXTRA_CA_CERTS at its start only: it counts for the processes of the test files.
    process.env.NODE_EXTRA_CA_CERTS = join(directory, "ca.pem");
    process.env.SIMULATOR_DIRECTORY = directory;
    return findProblem(await runFiles(files), named.length > 0);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function everyFile(): Promise<string[]> {
  const names = await readdir(__dirname);
  return names
    .filter((name) => name.endsWith(".test.ts"))
    .sort()
    .map((name) => join(__dirname, name))
    .filter((file) => !ENGINE.includes(file));
}

async function runFiles(files: string[]): Promise<Outcome> {
  const outcome: Outcome = { passed: 0, failed: 0, skipped: 0, filesWithoutTest: [] };
  const events = run({ files, concurrency: availableParallelism() });
  events.on("test:pass", ({ name, skip, details }) => {
    // Node.js counts a file in which no test was executed as a passed test of the file's name.
    if (files.includes(resolve(name))) outcome.filesWithoutTest.push(relative("", name));
    else if (skip !== undefined) outcome.skipped += 1;
    else if (details.type !== "suite") outcome.passed += 1;
  });
  events.on("test:fail", () => {
    outcome.failed += 1;
  });
  await pipeline(events, new spec(), process.stdout, { end: false });
  return outcome;
}

// A named file may skip all of its tests, as the engine tests do without the Pulumi CLI.
function findProblem(outcome: Outcome, named: boolean): string | undefined {
  const { passed, failed, skipped, filesWithoutTest } = outcome;
  if (failed > 0) return "Tests failed: their errors are above.";
  if (filesWithoutTest.length > 0) return `No test in ${filesWithoutTest.join(", ")}: write one, or delete the file.`;
  if (skipped > 0 && process.env.FAIL_ON_SKIP) {
    return "Tests were skipped, and FAIL_ON_SKIP is set: install what they say is missing, or unset it.";
  }
  if (passed === 0 && !(named && skipped > 0)) {
    return "No test was executed: `npm test` runs test/*.test.ts, `npm test -- FILE` one file.";
  }
  return undefined;
}
