// The commands in examples/, and those of docs/incidents.md for AWS and a leaked token, with stand-ins for the CLIs and the network.

import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { parse } from "yaml";
import { createIssuer, startServer } from "../../simulator/pulumiCloud";
import { exampleOf, podOf } from "../environment/examples";
import { ended, missingJq, writePrograms } from "../support/programs";
import { blocksOf, ROOT, read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

const UPDATE = podOf("scheduled-update.yaml").container;

/** The container of the second check in token-check.yaml. */
const DENIED = podOf("token-check.yaml", exampleOf("token-check.yaml").manifests.slice(1)).container;

/** Runs a container's command with stand-ins as its child processes, of which `helper` is the exchange script. */
async function run(t: TestContext, container: typeof UPDATE, programs: Record<string, string>) {
  const directory = temporaryDirectory(t);
  const [program = "", ...args] = container.command.map((word) =>
    word.replaceAll("/tmp/repository", directory),
  );
  const variables = Object.fromEntries(container.env.map(({ name, value }) => [name, value]));
  const env = {
    ...variables,
    PATH: writePrograms(directory, programs),
    HOME: directory,
    TIME_LIMIT: "1s",
    PULUMI_CREDENTIAL_HELPER: join(directory, "helper"),
  };
  return ended(spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env }));
}

test("scheduled-update.yaml lets an operation end after its time limit, also when its pod is then deleted", async (t) => {
  // Like the CLI, it waits for the running operation after the first SIGTERM, and not after a second one:
  // pkg/backend/cancellation_scope.go in pulumi/pulumi.
  const pulumi = `
    if [[ $1 == install ]]; then exit; fi
    trap 'trap "exit 1" TERM; echo canceling; kill -s TERM $PPID' TERM
    sleep 3 &
    wait
    wait
    echo saved
    exit 255`;
  const { stdout, exitCode } = await run(t, UPDATE, { git: "", pulumi });
  // The exit code of the CLI, so that the Job fails.
  assert.deepEqual([stdout, exitCode], ["canceling\nsaved\n", 255]);
});

test("scheduled-update.yaml starts no update when its pod is deleted before", async (t) => {
  const programs = { git: "kill -s TERM $PPID", pulumi: "echo started" };
  const { stdout, exitCode } = await run(t, UPDATE, programs);
  assert.deepEqual([stdout, exitCode], ["", 143]);
});

for (const [outcome, exchange, exitCode, message] of [
  ["succeeds while its service account is denied a token", 77, 0, /^$/],
  ["fails once its service account is granted a token", 0, 1, /it ended with 0\.$/m],
  ["fails if the exchange ends in any other way", 66, 1, /it ended with 66\.$/m],
] as const) {
  test(`the second check of token-check.yaml ${outcome}`, async (t) => {
    const result = await run(t, DENIED, { helper: `exit ${exchange}` });
    assert.match(result.stderr, message);
    assert.equal(result.exitCode, exitCode);
  });
}

test("with git/variables.yaml, git reads the token, and only for its host", () => {
  const variables: { name: string; value?: string }[] = parse(read("examples/git/variables.yaml"));
  const settings = Object.fromEntries(variables.map(({ name, value = "secret" }) => [name, value]));
  const ask = (host: string) =>
    execFileSync("git", ["credential", "fill"], {
      encoding: "utf8",
      input: `protocol=https\nhost=${host}\n`,
      stdio: ["pipe", "pipe", "ignore"],
      env: { PATH: process.env.PATH, HOME: tmpdir(), GIT_TERMINAL_PROMPT: "0", ...settings },
    });

  assert.match(ask("github.com"), /^username=x-access-token\npassword=secret$/m);
  assert.throws(() => ask("example.com"));
});

for (const script of ["patch-stacks.sh patch.yaml", "replace-pods.sh"]) {
  test(`${script} changes nothing if it is unknown whether the Stack is updating`, (t) => {
    const PATH = writePrograms(temporaryDirectory(t), { kubectl: 'echo "$1"; [[ $1 != get ]]' });
    const command = `bash ${join(ROOT, "examples", "operator", script)} team-a app`;
    const { status, stdout } = spawnSync("bash", ["-c", command], { env: { PATH }, encoding: "utf8" });
    // With which xargs also starts nothing else.
    assert.deepEqual([status, stdout], [255, ""]);
  });
}

/** The AWS CLI in an account with one role, which keeps its trust policy and the associations in the current directory. */
const AWS = `
case "$1 $2" in
  "iam get-role") jq '{Role: {Arn: "arn:aws:iam::123456789012:role/path/app", AssumeRolePolicyDocument: .}}' trust.json ;;
  "iam update-assume-role-policy") printf %s "\${@: -1}" >trust.json ;;
  "eks list-pod-identity-associations")
    jq --arg account "$8" '{associations: map(select(.serviceAccount == $account))}' associations.json ;;
  "eks describe-pod-identity-association") jq '{association: .[0]}' associations.json ;;
  "eks create-pod-identity-association")
    jq --argjson created "\${@: -1}" '. + [$created]' associations.json >all.json && mv all.json associations.json ;;
esac`;
const SUBJECT = "oidc.eks.us-west-2.amazonaws.com/id/0123:sub";
const IRSA = {
  Version: "2012-10-17",
  Statement: [
    { Condition: { StringEquals: { [SUBJECT]: "system:serviceaccount:team-a:default" } } },
    { Condition: { StringEquals: { [SUBJECT]: "system:serviceaccount:team-b:default" } } },
  ],
};

/** Runs trust-service-accounts.sh twice for a Stack that runs as `default`. @returns what it leaves, and what it has printed. */
function runTrust(t: TestContext, role: string, trust: object, associations: object[] = []) {
  const directory = temporaryDirectory(t);
  const PATH = writePrograms(directory, {
    kubectl: `if [[ $2 == serviceaccount ]]; then printf %s '${role}'; fi`,
    aws: AWS,
  });
  writeFileSync(join(directory, "trust.json"), JSON.stringify(trust));
  writeFileSync(join(directory, "associations.json"), JSON.stringify(associations));
  const script = join(ROOT, "examples", "operator", "trust-service-accounts.sh");
  const runs = [1, 2].map(() =>
    spawnSync("bash", [script, "my-cluster", "team-a", "app"], {
      cwd: directory,
      env: { PATH },
      encoding: "utf8",
    }),
  );
  const readJson = (file: string) => JSON.parse(readFileSync(join(directory, file), "utf8"));
  return {
    trust: readJson("trust.json"),
    associations: readJson("associations.json"),
    statuses: runs.map(({ status }) => status),
    stdout: runs.map(({ stdout }) => stdout).join(""),
    stderr: runs.map(({ stderr }) => stderr).join(""),
  };
}

describe("trust-service-accounts.sh", { skip: missingJq }, () => {
  const role = "arn:aws:iam::123456789012:role/path/app";

  test("adds a Stack's service account to the trust policy of its IRSA role, once", (t) => {
    const { trust, stdout, statuses } = runTrust(t, role, IRSA);
    const both = ["system:serviceaccount:team-a:app", "system:serviceaccount:team-a:default"];
    const [, other] = IRSA.Statement;
    assert.deepEqual(trust.Statement, [{ Condition: { StringEquals: { [SUBJECT]: both } } }, other]);
    assert.deepEqual(statuses, [0, 0]);
    assert.deepEqual(stdout.split("\n"), [
      `${role}: trusts team-a/app`,
      `${role}: trust policy unchanged. Check that it allows team-a/app.`,
      "",
    ]);
  });

  test("creates an association like that of EKS Pod Identity, and adds the service account to the conditions, once", (t) => {
    const association = {
      clusterName: "my-cluster",
      namespace: "team-a",
      serviceAccount: "default",
      roleArn: role,
      disableSessionTags: false,
      targetRoleArn: "arn:aws:iam::210987654321:role/target",
    };
    const conditionOf = (name: string | string[]) => ({
      StringEquals: {
        "aws:RequestTag/kubernetes-namespace": "team-a",
        "aws:RequestTag/kubernetes-service-account": name,
      },
    });
    const policy = { Statement: { Effect: "Allow", Condition: conditionOf("default") } };
    const existing = { ...association, associationId: "a-0123", tags: { owner: "ops" } };
    const { trust, associations, statuses } = runTrust(t, "", policy, [existing]);
    assert.deepEqual(trust.Statement, [{ Effect: "Allow", Condition: conditionOf(["app", "default"]) }]);
    assert.deepEqual(associations, [existing, { ...association, serviceAccount: "app" }]);
    assert.deepEqual(statuses, [0, 0]);
  });

  test("changes no role of the same name in another AWS account", (t) => {
    const { trust, stderr, statuses } = runTrust(t, "arn:aws:iam::210987654321:role/path/app", IRSA);
    assert.deepEqual([trust, statuses], [IRSA, [255, 255]]);
    assert.match(stderr, /^The role arn:aws:iam::210987654321:role\/path\/app is in another AWS account\./);
  });
});

test("the owner of a leaked token is looked up, and the token stays out of the arguments and the output", async (t) => {
  const users: Record<string, object> = { "token pul-leaked": { tokenInfo: { team: "team-a" } } };
  const { origin, close } = await startServer(({ url, headers }) => {
    const body = users[headers.authorization ?? ""];
    return body && url === "/api/user" ? { status: 200, body } : { status: 401 };
  });
  t.after(close);
  const PATH = writePrograms(temporaryDirectory(t), {
    curl: `echo "curl $*"\nexec ${execFileSync("bash", ["-c", "command -v curl"], { encoding: "utf8" }).trim()} "$@"`,
  });
  const block = blocksOf(read("docs/incidents.md")).find(({ info }) => info === "bash whose");
  const script = block?.text.replace("https://api.pulumi.com", origin) ?? assert.fail();
  const look = async (token: string) => {
    const child = spawn("bash", ["-euo", "pipefail", "-c", script], { env: { PATH } });
    child.stdin.end(`${token}\n`);
    const { stdout, stderr } = await ended(child);
    assert.doesNotMatch(stdout + stderr, /pul-/);
    return stdout;
  };
  assert.match(await look("pul-leaked"), /"team":"team-a".*\n200$/m);
  assert.match(await look("pul-dead"), /^401$/m);
});

test("the claims of an ID token are printed, and the names of issuers, which lead to its entry", {
  skip: missingJq,
}, async (t) => {
  const url = "https://oidc.example.com";
  const issuers = { oidcIssuers: [{ url, name: "eks-prod-us-1" }] };
  const PATH = writePrograms(temporaryDirectory(t), { pulumi: `echo '${JSON.stringify(issuers)}'` });
  const { token } = await createIssuer(url);
  // Its encoding has characters that Base64 does not have.
  const audience = "urn:pulumi:org:\u{fffe}\u{fbff}";
  const idToken = await token({ namespace: "team-a", serviceAccount: "app" }, audience);
  const block = blocksOf(read("docs/incidents.md")).find(({ info }) => info === "bash id-token");
  const args = ["-euo", "pipefail", "-c", block?.text ?? assert.fail()];
  const printed = execFileSync("bash", args, { input: `${idToken}\n`, env: { PATH }, encoding: "utf8" });
  assert.ok(printed.endsWith(`\n${url} eks-prod-us-1\n`), printed);
  const claims = { iss: url, sub: "system:serviceaccount:team-a:app", aud: [audience] };
  assert.deepEqual(JSON.parse(printed.replace(/\n\S+ \S+\n$/, "")), claims);
});
