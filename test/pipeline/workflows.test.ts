// The workflows: what decides what they preview, where, and as whom, and when they run. .ci/run checks their permissions, their
// actions, and what they interpolate, with actionlint and zizmor.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { runInNewContext } from "node:vm";
import { parse } from "yaml";
import { writePrograms } from "../support/programs";
import { ROOT, read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

type Step = Partial<Record<"id" | "if" | "uses" | "run", string>> & {
  with?: Record<string, string | boolean>;
};

const DIRECTORY = ".github/workflows";
const WORKFLOWS = readdirSync(join(ROOT, DIRECTORY)).map((file) => file.replace(".yml", ""));
const LIST = '[{"stack":"acme/eks-pulumi-oidc/dev","region":"us-west-2"}]';

/** The jobs that exchange an ID token, by the names of their workflows. */
const PRIVILEGED = ["drift", "preview"] as const;

for (const [file, expected] of [
  [undefined, "list=[]\n"],
  [`{"repositoryId":"42","stacks":${LIST}}`, `list=${LIST}\n`],
  // Not a copy of this project.
  [
    `{"repositoryId":"42","policyPack":{"repository":"a/b","ref":"c"},"stacks":[{"stack":"d"}]}`,
    'list=[{"policyPack":{"repository":"a/b","ref":"c"},"stack":"d"}]\n',
  ],
  // A stage that is upgraded before the others.
  [
    `{"repositoryId":"42","policyPack":{"ref":"old"},"stacks":[{"stack":"d"},{"stack":"e","policyPack":{"ref":"new"}}]}`,
    'list=[{"policyPack":{"ref":"old"},"stack":"d"},{"policyPack":{"ref":"new"},"stack":"e"}]\n',
  ],
  // In a fork, which has a copy of the file.
  [`{"repositoryId":"43","stacks":${LIST}}`, "list=[]\n"],
  ["", undefined],
  ['{"repositoryId":"42","stacks":"dev"}', undefined],
] as const) {
  test(`stacks.yml reads ${file ?? "no file"}: ${expected?.trim() ?? "an error"}`, (t) => {
    const directory = temporaryDirectory(t);
    const output = join(directory, "output");
    writeFileSync(output, "");
    mkdirSync(join(directory, ".github"));
    if (file !== undefined) writeFileSync(join(directory, ".github", "pipeline.json"), file);
    const { run: script } = workflow("stacks").jobs.read.steps.find((step: Step) => step.run);
    const variables = { GITHUB_OUTPUT: output, GITHUB_REPOSITORY_ID: "42" };
    const { status, stderr } = runStep(script, directory, variables);
    assert.equal(status === 0, expected !== undefined, stderr);
    assert.equal(readFileSync(output, "utf8"), expected ?? "");
  });
}

test("the file decides what is previewed, and no variable or secret of the repository does", () => {
  for (const name of WORKFLOWS) {
    assert.doesNotMatch(read(`${DIRECTORY}/${name}.yml`), /\b(vars|secrets|inputs)\b *[.[]/, name);
  }
  for (const name of PRIVILEGED) {
    assert.equal(workflow(name).jobs.stacks.uses, "./.github/workflows/stacks.yml");
  }
});

test("no workflow changes a stack, or uses a commit other than the one that started it, but for the policy pack", () => {
  const steps = WORKFLOWS.flatMap((name) => Object.values<{ steps?: Step[] }>(workflow(name).jobs));
  for (const { uses = "", run = "", with: inputs } of steps.flatMap((job) => job.steps ?? [])) {
    assert.doesNotMatch(run, /\bpulumi (?!preview |install )/);
    assert.equal(inputs?.command, undefined);
    const isPack = /^\$\{\{ matrix\.policyPack\.ref \}\}$/.test(`${inputs?.ref}`);
    if (uses.startsWith("actions/checkout@") && !isPack) assert.ok(!inputs?.ref && !inputs?.repository);
  }
});

test("no workflow leaves GitHub's token in a checkout, where a program could read it", () => {
  const steps = WORKFLOWS.flatMap((name) => Object.values<{ steps?: Step[] }>(workflow(name).jobs));
  const checkouts = steps.flatMap((job) => job.steps ?? []).filter(({ uses }) => uses?.includes("checkout@"));
  assert.ok(checkouts.length >= 6);
  for (const { with: inputs } of checkouts) assert.equal(inputs?.["persist-credentials"], false);
});

test("workflows start only with what a person has pushed, and have no more rights than they need", () => {
  const triggers = WORKFLOWS.map((name) => [name, Object.keys(workflow(name).on)]);
  assert.deepEqual(Object.fromEntries(triggers), {
    checks: ["pull_request", "push"],
    drift: ["schedule", "workflow_dispatch"],
    // Not pull_request_target, which would run the code of a pull request with the rights of main.
    preview: ["pull_request"],
    stacks: ["workflow_call"],
  });
  for (const name of WORKFLOWS) {
    const { permissions, jobs } = workflow(name);
    if (name !== "checks") assert.deepEqual(permissions, {});
    const granted = Object.values<{ permissions?: object }>(jobs).map(
      (job) => job.permissions ?? permissions,
    );
    const token = { "id-token": "write" };
    const isPrivileged = (PRIVILEGED as readonly string[]).includes(name);
    const expected = isPrivileged
      ? [{ contents: "read" }, { contents: "read", ...token }]
      : [{ contents: "read" }];
    assert.deepEqual(granted, expected, name);
  }
});

test("no package runs a script when a workflow with an ID token installs it", () => {
  for (const { run = "" } of PRIVILEGED.flatMap((name) => workflow(name).jobs[name].steps as Step[])) {
    if (/\bnpm (ci|i|install)\b/.test(run)) assert.match(run, / --ignore-scripts /);
  }
});

/** The pack that a stack is checked with, and which repository it comes from. */
for (const [what, policyPack, expected, isFetched] of [
  ["in a copy, its own", undefined, "prod/policy", false],
  ["in a fleet, this project's at a commit", { repository: "a/b", ref: "c" }, "eks-pulumi-oidc/policy", true],
  ["in a copy that says so, none", "none", "", false],
] as const) {
  test(`a stack is checked with a pack: ${what}`, () => {
    for (const name of PRIVILEGED) {
      const { env, steps } = workflow(name).jobs[name];
      const context = {
        matrix: { directory: "prod", policyPack },
        format: (_: string, it: string) => `${it}/policy`,
      };
      const expression = env.PACK.replace(/^\$\{\{|\}\}$/g, "").replace(/(\w)\.(?=\w)/g, "$1?.");
      assert.equal(runInNewContext(expression, context), expected, name);
      const checkout = steps.find(({ with: inputs }: Step) => inputs?.path === "eks-pulumi-oidc");
      const from = `${checkout.with.repository} ${checkout.with.ref}`;
      assert.match(from, /^\$\{\{ matrix\.policyPack\.repository \}\} \$\{\{ matrix\.policyPack\.ref \}\}$/);
      assert.equal(isTrue(checkout.if, context), isFetched, name);
    }
  });
}

const PACK_FILE = "eks-pulumi-oidc/policy/PulumiPolicy.yaml";
const DRIFT_FILE = "eks-pulumi-oidc/policy/drift.json";

/** The variables of a job, in a repository that is not a copy of this project. */
const OF_JOB = { STACK: "acme/eks-pulumi-oidc/dev", PROGRAM: "prod", PACK: "eks-pulumi-oidc/policy" };

const PREVIEW = "preview --non-interactive --color never --stack acme/eks-pulumi-oidc/dev --cwd prod";
const DRIFT =
  "preview --refresh --diff --expect-no-changes --non-interactive --stack acme/eks-pulumi-oidc/dev --cwd prod";
const OF_PACK = "--policy-pack DIRECTORY/eks-pulumi-oidc/policy";
const LIMITS = "prod/Pulumi.dev.policy.json";
const LIMITS_OF_STAGE = "prod/Pulumi.policy.json";
const HEADING = (verdict: string, pack = "eks-pulumi-oidc/policy at COMMIT") =>
  `## Preview: ${verdict}\n\n    stack: acme/eks-pulumi-oidc/dev\n    policy pack: ${pack}\n    \n`;

for (const [what, files, pulumi, status, summary] of [
  [
    "the output of a preview with the pack",
    [PACK_FILE],
    'echo "$@"',
    0,
    `${HEADING("passed")}    ${PREVIEW} ${OF_PACK}\n`,
  ],
  [
    "a preview with the limits of its stack",
    [PACK_FILE, LIMITS, LIMITS_OF_STAGE],
    'echo "$@"',
    0,
    `${HEADING("passed")}    ${PREVIEW} ${OF_PACK} --policy-pack-config DIRECTORY/${LIMITS}\n`,
  ],
  [
    "a preview with the limits of its stage, in a fleet",
    [PACK_FILE, LIMITS_OF_STAGE],
    'echo "$@"',
    0,
    `${HEADING("passed")}    ${PREVIEW} ${OF_PACK} --policy-pack-config DIRECTORY/${LIMITS_OF_STAGE}\n`,
  ],
  [
    "a preview without a pack, in a copy that has none",
    [],
    'echo "$@"',
    0,
    `${HEADING("passed", "none")}    ${PREVIEW}\n`,
  ],
  [
    "why a preview has failed, as nothing but text",
    [PACK_FILE],
    String.raw`printf '\033[8m\n\n\140\140\140\n# title\n::stop-commands::\342\200\256\r\n' >&2; exit 255`,
    255,
    `${HEADING("failed")}    [8m\n    \n    \`\`\`\n    # title\n    ::stop-commands::\n`,
  ],
] satisfies [string, string[], string, number, string][]) {
  test(`preview.yml writes to the job summary ${what}`, (t) => {
    const changes = files.length > 0 ? {} : { PACK: "" };
    const { directory, run } = runLastStep(t, "preview", files, pulumi, changes);
    assert.equal(
      readFileSync(join(directory, "summary"), "utf8").replaceAll(directory, "DIRECTORY"),
      summary,
    );
    assert.deepEqual(
      [run.stdout, run.stderr, run.status],
      ["The output is in the job summary.\n", "", status],
    );
  });
}

test("preview.yml writes less than GitHub shows", (t) => {
  const { directory } = runLastStep(t, "preview", [PACK_FILE], "head --bytes=3000000 /dev/zero | tr '\\0' x");
  assert.ok(readFileSync(join(directory, "summary")).length < 1024 * 1024);
});

const WITH_LIMITS = `${DRIFT} ${OF_PACK} --policy-pack-config DIRECTORY/policy.json\n{"a":"y","b":"y"}\n`;
for (const [what, files, output] of [
  ["with the limits of its stack, which take precedence", [PACK_FILE, DRIFT_FILE, LIMITS], WITH_LIMITS],
  ["with the limits of its stage, in a fleet", [PACK_FILE, DRIFT_FILE, LIMITS_OF_STAGE], WITH_LIMITS],
  ["without a pack, in a copy that has none", [], `${DRIFT}\n`],
] satisfies [string, string[], string][]) {
  test(`drift.yml previews what exists ${what}`, (t) => {
    const pulumi = 'echo "$@"; [[ ! -e policy.json ]] || jq -c . policy.json; exit 1';
    const changes = files.length > 0 ? {} : { PACK: "" };
    const { directory, run } = runLastStep(t, "drift", files, pulumi, changes);
    assert.match(readFileSync(join(directory, "summary"), "utf8"), /^ {4}policy pack: (none|.* at COMMIT)$/m);
    assert.deepEqual([run.stdout.replaceAll(directory, "DIRECTORY"), run.status], [output, 1]);
  });
}

test("a pack that is missing fails, and nothing is previewed", (t) => {
  for (const name of PRIVILEGED) {
    const { run } = runLastStep(t, name, [], "echo previewed");
    assert.deepEqual([run.status, run.stdout], [128, ""], name);
  }
});

/** Runs the last step of a workflow, with a `pulumi` that is this script. */
function runLastStep(t: TestContext, name: string, files: string[], pulumi: string, changes = {}) {
  const directory = temporaryDirectory(t);
  for (const file of files) {
    mkdirSync(join(directory, dirname(file)), { recursive: true });
    writeFileSync(join(directory, file), file === DRIFT_FILE ? '{"a":"x"}' : '{"a":"y","b":"y"}');
  }
  const { run: script } = workflow(name).jobs[name].steps.at(-1);
  const git = `[[ -d $2 ]] || { echo "cannot change to $2" >&2; exit 128; }; echo COMMIT`;
  const PATH = writePrograms(directory, { pulumi, git });
  const summary = join(directory, "summary");
  const variables = { ...OF_JOB, ...changes, PATH, RUNNER_TEMP: directory, GITHUB_STEP_SUMMARY: summary };
  return { directory, run: runStep(script, directory, variables) };
}

for (const [name, run, expected] of [
  // A matrix without an element would be an error.
  ...PRIVILEGED.map((name) => [name, { list: "[]" }, false] as const),
  ...PRIVILEGED.map((name) => [name, {}, true] as const),
  ["preview", { head: "mallory/eks-pulumi-oidc" }, false],
  // Even if a person has pushed to the bot's branch, and is the actor.
  ["preview", { author: "Bot" }, false],
  ["drift", { ref: "refs/heads/feature" }, false],
] as const) {
  test(`${name} ${expected ? "starts" : "does not start"} with ${JSON.stringify(run)}`, () => {
    const usual = { list: LIST, author: "User", ref: "refs/heads/main", head: "acme/eks-pulumi-oidc" };
    const { list, author, ref, head } = { ...usual, ...run };
    const pull_request = { user: { type: author }, head: { repo: { full_name: head } } };
    const event = { pull_request, sender: { type: "User" } };
    const github = { repository: "acme/eks-pulumi-oidc", ref, event };
    const context = { needs: { stacks: { outputs: { list } } }, github };
    assert.equal(isTrue(workflow(name).jobs[name].if, context), expected);
  });
}

/** Runs the script of a step, as GitHub does. */
function runStep(script: string, cwd: string, variables: Record<string, string>) {
  // https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell
  return spawnSync("bash", ["-e", "-c", script], {
    cwd,
    env: { ...process.env, ...variables },
    encoding: "utf8",
  });
}

function workflow(name: string) {
  return parse(read(`${DIRECTORY}/${name}.yml`));
}

/** Evaluates the `if` of a job or a step, whose expressions are also those of JavaScript. */
function isTrue(condition = "true", context: object): boolean {
  // A status function would start it although something has failed.
  assert.doesNotMatch(condition, /\b(always|failure|cancelled|success)\(/);
  return Boolean(runInNewContext(condition.replace(/(\w)\.(?=\w)/g, "$1?."), context));
}
