// The workflows: what decides what they preview, where, and as whom, and when they run. .ci/run checks their permissions, their
// actions, and what they interpolate, with actionlint and zizmor.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { runInNewContext } from "node:vm";
import { parse } from "yaml";
import { writePrograms } from "../support/programs";
import { ROOT, read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

type Step = Partial<Record<"id" | "if" | "uses" | "run", string>> & {
  "continue-on-error"?: boolean;
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
    `{"repositoryId":"42","check":{"repository":"a/b","ref":"c"},"stacks":[{"stack":"d"}]}`,
    'list=[{"check":{"repository":"a/b","ref":"c"},"stack":"d"}]\n',
  ],
  // A stage that is upgraded before the others.
  [
    `{"repositoryId":"42","check":{"ref":"old"},"stacks":[{"stack":"d"},{"stack":"e","check":{"ref":"new"}}]}`,
    'list=[{"check":{"ref":"old"},"stack":"d"},{"check":{"ref":"new"},"stack":"e"}]\n',
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

test("no workflow changes a stack, or uses a commit other than the one that started it, but for the access check", () => {
  const steps = WORKFLOWS.flatMap((name) => Object.values<{ steps?: Step[] }>(workflow(name).jobs));
  for (const { uses = "", run = "", with: inputs } of steps.flatMap((job) => job.steps ?? [])) {
    assert.doesNotMatch(run, /\bpulumi (?!preview |install )/);
    assert.ok([undefined, "preview"].includes(inputs?.command as string));
    const isCheck = /^\$\{\{ matrix\.check\.ref \}\}$/.test(`${inputs?.ref}`);
    if (uses.startsWith("actions/checkout@") && !isCheck) assert.ok(!inputs?.ref && !inputs?.repository);
  }
});

/** The variables of a job, in a repository that is not a copy of this project. */
const OF_JOB = { STACK: "acme/eks-pulumi-oidc/dev", PROGRAM: "prod", CHECK: "eks-pulumi-oidc" };

const DIAGNOSTICS = JSON.stringify({
  diagnostics: [{ severity: "error", message: "error: \u001b[8m\n\n::stop-commands::\u202e\n" }],
});
for (const [what, programs, expected] of [
  [
    "adds the report of the plan to the job summary",
    { pulumi: 'echo "$@"', npm: 'echo "$1 $2 $3 $4 $5 $6"; cat "$7"' },
    {
      status: 0,
      log: "",
      summary: `start --silent --prefix eks-pulumi-oidc -- --plan
preview --json --show-sames --non-interactive --stack acme/eks-pulumi-oidc/dev --cwd prod
`,
    },
  ],
  [
    "fails with the report if something is not as intended",
    { pulumi: "echo {}", npm: "echo not intended; exit 1" },
    { status: 1, log: "", summary: "not intended\n" },
  ],
  [
    "prints why a preview has failed, which cannot change the log",
    { pulumi: `echo '${DIAGNOSTICS}'; exit 1`, npm: "echo asked" },
    { status: 1, log: '"error: \\u001b[8m"\n"::stop-commands::\\u202e"\n', summary: "" },
  ],
] as const) {
  test(`the step of preview.yml that checks the plan ${what}`, (t) => {
    const directory = temporaryDirectory(t);
    const file = join(directory, "summary");
    writeFileSync(file, "");
    const { run } = workflow("preview").jobs.preview.steps.find(({ id }: Step) => id === "plan");
    const { status, stdout: log } = runStep(run, directory, {
      PATH: writePrograms(directory, programs),
      ...OF_JOB,
      RUNNER_TEMP: directory,
      GITHUB_STEP_SUMMARY: file,
    });
    assert.deepEqual({ status, log, summary: readFileSync(file, "utf8") }, expected);
  });
}

const CHECK_FILE = "eks-pulumi-oidc/simulator/commandLine.ts";
for (const [what, file, pulumi, status, expected] of [
  [
    "runs the access check of what exists",
    CHECK_FILE,
    'echo pulumi "$@"',
    0,
    `npm start --silent --prefix eks-pulumi-oidc -- --plan TEMPORARY/plan.json --expect-no-changes
pulumi preview --refresh --json --show-sames --non-interactive --stack acme/eks-pulumi-oidc/dev --cwd prod
`,
  ],
  [
    "prints why a preview has failed",
    CHECK_FILE,
    `echo '${DIAGNOSTICS}'; exit 1`,
    1,
    '"error: \\u001b[8m"\n"::stop-commands::\\u202e"\n',
  ],
  [
    "runs a preview without an access check",
    "eks-pulumi-oidc/index.ts",
    'echo pulumi "$@"',
    0,
    "pulumi preview --refresh --diff --expect-no-changes --non-interactive --stack acme/eks-pulumi-oidc/dev --cwd prod\n",
  ],
] as const) {
  test(`the last step of drift.yml ${what}`, (t) => {
    const directory = temporaryDirectory(t);
    mkdirSync(join(directory, dirname(file)), { recursive: true });
    writeFileSync(join(directory, file), "");
    const npm = 'echo npm "$@"; cat "$RUNNER_TEMP/plan.json"';
    const PATH = writePrograms(directory, { pulumi, npm });
    const { run } = workflow("drift").jobs.drift.steps.at(-1);
    const result = runStep(run, directory, { ...OF_JOB, PATH, RUNNER_TEMP: directory });
    assert.equal(result.stdout.replaceAll(directory, "TEMPORARY"), expected);
    assert.equal(result.status, status);
  });
}

test("preview.yml posts the comment, and then fails if the preview or the access check has", () => {
  const steps: Step[] = workflow("preview").jobs.preview.steps;
  const index = steps.findIndex(({ id }) => id === "plan");
  const [plan, comment, last = {}, ...others] = steps.slice(index);
  assert.deepEqual(others, []);
  assert.equal(plan?.["continue-on-error"], true);
  assert.equal(comment?.with?.["comment-on-pr"], true);
  assert.equal(runStep(last.run ?? "", ROOT, {}).status, 1);
  for (const [outcome, expected] of Object.entries({ success: false, failure: true, skipped: false })) {
    assert.equal(isTrue(last.if, { steps: { plan: { outcome } } }), expected, outcome);
  }
});

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
