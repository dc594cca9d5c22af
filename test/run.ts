// Runs tests with Node's own runner: `node --import tsx test/run.ts [FILE…]`, by default all that require no other program.

import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { run } from "node:test";
import { dot } from "node:test/reporters";

/** One more than the processors: tests of retries and time limits mostly wait. */
const PROCESSES = availableParallelism() + 1;

/**
 * A program that failed in a test can leave a server open, with which its process would never end. Node's own option for that,
 * `--test-force-exit`, loses results that are not sent yet.
 */
const END = "after(() => void setTimeout(() => process.exit(), 2_000).unref());\n\n";

main(process.argv.slice(2)).then((problems) => {
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
});

/** Runs these files, and returns what is wrong with the outcome. */
async function main(named: string[]): Promise<string[]> {
  const directory = mkdtempSync(join(tmpdir(), "tests-"));
  try {
    // For the processes of the test files: no login of this machine.
    for (const name of ["PULUMI_ACCESS_TOKEN", "PULUMI_BACKEND_URL", "PULUMI_API"]) delete process.env[name];
    process.env.PULUMI_CREDENTIALS_PATH = directory;
    // Pulumi compiles programs with ts-node, which would fill the checkout's own cache.
    process.env.TS_NODE_CACHE_DIRECTORY = join(directory, "ts-node");
    const groups = named.length > 0 ? named.map((file) => [file]) : balanced(unitTests());
    return await runGroups(directory, groups);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Returns the files that require no other program: neither the Pulumi CLI or the AWS CLI, nor a Kubernetes API server. */
function unitTests(): string[] {
  const files = readdirSync(__dirname, { encoding: "utf8", recursive: true });
  const tests = files.filter((file) => /^[^.]+\.test\.ts$/.test(file));
  return tests.map((file) => join(__dirname, file));
}

/** Distributes files over a few groups, each for one process: loading Pulumi's SDK takes longer than most files' tests. */
function balanced(files: string[]): string[][] {
  const groups = Array.from({ length: Math.min(PROCESSES + 1, files.length) }, (): string[] => []);
  // Large files first, so that no group has two of them.
  const sorted = files.toSorted((a, b) => statSync(b).size - statSync(a).size);
  for (const [index, file] of sorted.entries()) groups[index % groups.length]?.push(file);
  return groups;
}

/** Runs each group of files in a separate process, and returns what is wrong with the outcome. */
async function runGroups(directory: string, groups: string[][]): Promise<string[]> {
  let passed = 0;
  let failed = 0;
  let isUnloadable = false;
  const skipped: string[] = [];
  const files = groups.map((group, index) => writeGroup(join(directory, `group-${index}.ts`), group));
  const events = run({ files, concurrency: PROCESSES });
  events.on("test:pass", ({ skip, details }) => {
    if (skip !== undefined) skipped.push(String(skip));
    else if (details.type !== "suite") passed += 1;
  });
  events.on("test:fail", ({ details }) => {
    // A suite fails with its tests, and by itself if its file cannot be loaded.
    const { failureType } = details.error as Error & { failureType?: string };
    if (failureType === "subtestsFailed") return;
    failed += 1;
    isUnloadable ||= details.type === "suite";
  });
  // Of interest only if a file cannot be loaded: tests cause warnings on purpose.
  let stderr = "";
  events.on("test:stderr", ({ message }) => {
    stderr += message;
  });
  for await (const text of events.compose(dot)) {
    // One line of progress for a person, instead of the reporter's dots. Below them, it lists the failures.
    const isProgress = /^[.X\n]*$/.test(String(text));
    if (!isProgress) process.stdout.write(text);
    else if (process.stdout.isTTY) process.stdout.write(`\r${passed + failed} tests`);
  }
  if (isUnloadable) process.stderr.write(stderr);

  console.log(`\n${passed} passed, ${failed} failed, ${skipped.length} skipped`);
  for (const reason of new Set(skipped)) console.log(`Skipped: ${reason}`);
  if (failed > 0) return ["Tests failed: their errors are above."];
  if (skipped.length > 0 && process.env.FAIL_ON_SKIP) {
    return ["FAIL_ON_SKIP is set: install what is missing."];
  }
  return passed + skipped.length === 0 ? ["No test was executed."] : [];
}

/** Writes a file that runs the tests of a group of files, and returns its path. */
function writeGroup(path: string, files: string[]): string {
  const suites = files.map((file) => {
    const name = JSON.stringify(relative("", file));
    return `describe(${name}, () => void require(${JSON.stringify(resolve(file))}));\n`;
  });
  writeFileSync(path, `import { after, describe } from "node:test";\n\n${END}${suites.join("")}`);
  return path;
}
