// Runs the tests with Node's own runner: `node --import tsx test/run.ts [--engine | --cluster | FILE…]`.

import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, relative, resolve, sep } from "node:path";
import { run } from "node:test";
import { dot } from "node:test/reporters";
import { saveCertificateAuthority } from "../simulator/emulators/certificates";

const PRELOADED = [
  // Makes the program accept the certificates of the emulators.
  join(__dirname, "..", "simulator", "emulators", "trust.cjs"),
  // Lets a process start sooner.
  join(__dirname, "support", "lightSdk.cjs"),
];

/** One more than the processors: tests of retries and time limits mostly wait. */
const PROCESSES = availableParallelism() + 1;

main(process.argv.slice(2)).then((problems) => {
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
});

/** Runs the named files, and returns what is wrong with the outcome. */
async function main(named: string[]): Promise<string[]> {
  const missing = named.filter((name) => !/^--(engine|cluster)$/.test(name) && !existsSync(name));
  if (missing.length > 0) return missing.map((name) => `No such test file: ${name}`);

  const directory = mkdtempSync(join(tmpdir(), "simulation-"));
  try {
    await saveCertificateAuthority(directory);
    // Node.js reads NODE_EXTRA_CA_CERTS only when it starts: this is for the processes of the test files.
    process.env.NODE_EXTRA_CA_CERTS = join(directory, "ca.pem");
    process.env.SIMULATOR_DIRECTORY = directory;
    // No login of this machine: the emulated Pulumi Cloud needs none.
    for (const name of ["PULUMI_ACCESS_TOKEN", "PULUMI_BACKEND_URL", "PULUMI_API"]) delete process.env[name];
    process.env.PULUMI_CREDENTIALS_PATH = directory;
    // Pulumi compiles programs with ts-node, which would fill the checkout's own cache.
    process.env.TS_NODE_CACHE_DIRECTORY = join(directory, "ts-node");
    process.env.NODE_OPTIONS = PRELOADED.map((file) => `--require=${JSON.stringify(file)}`).join(" ");
    return await runGroups(directory, groupsOf(named), named.length > 0);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Returns the files to run, in groups. Each group runs in one process. */
function groupsOf(named: string[]): string[][] {
  switch (named[0]) {
    case undefined:
      return balanced(filesWith(".test.ts").filter((file) => !/\.(engine|cluster)\.test\.ts$/.test(file)));
    // These require the Pulumi CLI or the AWS CLI.
    case "--engine":
      return filesWith(".engine.test.ts").map((file) => [file]);
    // These require a Kubernetes API server.
    case "--cluster":
      return filesWith(".cluster.test.ts").map((file) => [file]);
    default:
      return named.map((file) => [resolve(file)]);
  }
}

/** Distributes files over a few processes, the largest first: loading Pulumi's SDK takes longer than most files' tests. */
function balanced(files: string[]): string[][] {
  const sizes = new Map(files.map((file) => [file, statSync(file).size]));
  const sorted = files.toSorted((a, b) => (sizes.get(b) ?? 0) - (sizes.get(a) ?? 0));
  const numbers = Array.from({ length: Math.min(PROCESSES + 1, files.length) }, (_, number) => number);
  return numbers.map((number) => sorted.filter((_, index) => index % numbers.length === number));
}

/** Returns the files below this directory with this end. Those of the whole stack take the longest, and are the first. */
function filesWith(end: string): string[] {
  const files = readdirSync(__dirname, { encoding: "utf8", recursive: true }).filter((name) =>
    name.endsWith(end),
  );
  const ofStack = files.filter((name) => name.startsWith(`engine${sep}`));
  return [...new Set([...ofStack, ...files.toSorted()])].map((name) => join(__dirname, name));
}

async function runGroups(directory: string, groups: string[][], named: boolean): Promise<string[]> {
  let passed = 0;
  let failed = 0;
  const skipped: string[] = [];
  const empty = new Set(groups.flat());
  const files = groups.map((group, index) => writeGroup(join(directory, `group-${index}.ts`), group));
  const events = run({ files, concurrency: PROCESSES });
  events.on("test:pass", ({ file = "", skip, details }) => {
    empty.delete(file);
    if (skip !== undefined) skipped.push(String(skip));
    else if (details.type !== "suite") passed += 1;
  });
  events.on("test:fail", ({ details }) => {
    // A suite fails with its tests, and by itself if its file cannot be loaded.
    const { failureType } = details.error as Error & { failureType?: string };
    if (failureType !== "subtestsFailed") failed += 1;
  });
  events.on("test:stdout", ({ message }) => process.stdout.write(message));
  // Of interest only with a failure, such as why a file cannot be loaded: tests cause warnings on purpose.
  let stderr = "";
  events.on("test:stderr", ({ message }) => {
    stderr += message;
  });
  for await (const text of events.compose(dot)) process.stdout.write(text);
  if (failed > 0) process.stderr.write(stderr);

  console.log(`\n${passed} passed, ${failed} failed, ${skipped.length} skipped`);
  for (const reason of new Set(skipped)) console.log(`Skipped: ${reason}`);
  if (failed > 0) return ["Tests failed: their errors are above."];
  const problems = [...empty].map(
    (file) => `No test in ${relative("", file)}: write one, or delete the file.`,
  );
  if (skipped.length > 0 && process.env.FAIL_ON_SKIP)
    problems.push("FAIL_ON_SKIP is set: install what is missing.");
  // A named file may skip all of its tests: engine tests need the Pulumi CLI, and those of a cluster an API server.
  if (passed === 0 && !(named && skipped.length > 0)) problems.push("No test was executed.");
  return problems;
}

/** Writes a file that runs the tests of a group of files, and returns its path. */
function writeGroup(path: string, files: string[]): string {
  const suites = files.map((file) => {
    const name = JSON.stringify(relative("", file));
    return `describe(${name}, () => void require(${JSON.stringify(file)}));\n`;
  });
  writeFileSync(path, `import { describe } from "node:test";\n\n${suites.join("")}`);
  return path;
}
