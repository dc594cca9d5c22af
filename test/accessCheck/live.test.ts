// The live check. Its programs (kubectl, aws, and pulumi) are functions that answer from the emulators, and Pulumi Cloud is the
// emulator's HTTPS endpoint. Only how the check ends is tested with a process; what Pulumi compares, in live.cluster.test.ts.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { styleText } from "node:util";
import { findIssuerAdditions } from "../../accessCheck/additions";
import type { Question } from "../../accessCheck/questions";
import { askServices } from "../../accessCheck/realServices";
import type { ServiceAccount } from "../../accessCheck/serviceAccounts";
import { printableJson, redact, shellQuoted, shown } from "../../accessCheck/terminal";
import { type Run, ToolError, toolRunner } from "../../accessCheck/tools";
import type { AuthPolicy } from "../../simulator/emulators/authPolicy";
import { createCertificateAuthority, emulatorCertificate } from "../../simulator/emulators/certificates";
import type { Simulation } from "../../simulator/emulators/simulation";
import { runProgram } from "../../simulator/runProgram";
import { type Answer, drip, hang, respond, startEndpoint } from "../support/endpoint";
import { ended, writePrograms } from "../support/programs";
import { ROOT } from "../support/project";
import { changePolicies, stackOf, startCluster } from "../support/stack";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";
import {
  checkLive,
  type Edit,
  inOneLine,
  type LiveRun,
  type LiveStack,
  previewOf,
  stsError,
} from "./liveTools";
import type { PlanStep } from "./plans";

const ROLE = "arn:aws:iam::123456789012:role/admin";
const ACCESS_TOKEN = `pul-${"0123456789".repeat(4)}`;
const STS_URL = "https://vpce-1.sts.us-west-2.vpce.amazonaws.com";

// The calls whose answer a test edits: the beginning of the command, or a part of it.
const PREVIEW = "pulumi preview ";
const ISSUERS = "/oidc/issuers ";
const POLICIES = "/auth/policies/oidcissuers/";
const CONFIG_MAP = "kubectl get configmap ";
const ID_TOKEN = "kubectl create token ";
const STS = "aws sts ";

const DIFFERENCES = "Differences from the program (what exists → what the program says)";

/** The pattern of a provider's kubeconfig. */
const KUBECONFIG = /"kubeconfig":"(?:[^"\\]|\\.)*"/g;

/** The pattern of a whole answer. */
const ALL = /^.*$/gs;

/** Returns an edit of the answers to some calls, in which the pattern must be. A replacement can be a whole answer. */
function edit(calls: string, pattern: RegExp | string, replacement: string): Edit {
  return (stdout, { tool, args }) => {
    if (!`${tool} ${args.join(" ")} `.includes(calls)) return stdout;
    const edited = stdout.replaceAll(pattern, () => replacement);
    assert.notEqual(edited, stdout, `${pattern} changes nothing in ${stdout}`);
    return edited;
  };
}

/** Returns an edit of the steps in the program's preview. */
function editSteps(change: (step: PlanStep) => PlanStep): Edit {
  return (stdout, { args }) => {
    if (args[0] !== "preview") return stdout;
    const { steps, ...plan } = JSON.parse(stdout);
    const isProgram = ({ op }: PlanStep) => op !== "refresh";
    return JSON.stringify({ ...plan, steps: steps.map((it: PlanStep) => (isProgram(it) ? change(it) : it)) });
  };
}

// One stack that is up, for all tests.
let simulation: Simulation;
let stack: LiveStack;

before(async () => {
  simulation = await startCluster();
  const secrets = { tokenType: "organization", tokenAudience: "api", audienceRule: true };
  const serviceAccounts = [
    { namespace: "ci", name: "deployer", tokenType: "personal", userLogin: "my-login", awsRole: "irsa" },
    { namespace: "ci", name: "secrets", ...secrets },
    { namespace: "ops", name: "drift", tokenType: "team", teamName: "ops", awsRole: "irsa" },
    { namespace: "ops", name: "operator", tokenType: "team", teamName: "ops", awsRole: "pod-identity" },
  ].map((entry) => ({ ...entry, runJob: false }));
  const program = stackOf({
    "aws:profile": "prod",
    "aws:assumeRoles": [{ roleArn: ROLE }],
    pulumiApiUrl: simulation.pulumiCloud.apiUrl,
    // Access tokens with a longer lifetime are denied: the check requests the shortest.
    maxExpirationSeconds: 60,
    serviceAccounts,
  });
  const { registered } = await runProgram(simulation, { ...program, stack: "prod" });
  stack = { name: "prod", simulation, config: program.config, registered };
});
after(() => simulation.close());

/** Returns how many ID tokens Pulumi Cloud has received. */
function exchanges(): number {
  return simulation.pulumiCloud.exchanges.length;
}

/** Lets a stream of this process be a terminal instead of a pipe, until the test ends. */
function useTerminal(t: TestContext, stream: { isTTY: boolean }): void {
  Object.assign(stream, { isTTY: true });
  t.after(() => Object.assign(stream, { isTTY: false }));
}

test("allows each of four service accounts only as itself, and answers the open questions", async () => {
  const before = exchanges();
  const { exitCode, stdout, errors, calls, sentToSts, tokens, left } = await checkLive(stack);
  assert.equal(errors, "");
  const lines = stdout.split("\n");
  assert.match(lines.join(" "), /audit logs .* serviceaccounts\/token, .* pull request's workflow/);
  assert.deepEqual(lines.slice(lines.indexOf(DIFFERENCES)).slice(0, 32), [
    DIFFERENCES,
    "  pulumi preview --refresh shows none.",
    "",
    "Additions that no preview shows",
    "  There are none.",
    "",
    "  Asking as 17 callers.",
    "",
    "Access check",
    "  Service account  Access token   Gets the token  Gets the role",
    "  ci/deployer      user:my-login  only itself     only itself",
    "  ci/secrets       organization   only itself     no role",
    "  ops/drift        team:ops       itself (+1)     only itself",
    "    ops (exists already)",
    "    (+1) granted the same access token: ops/operator",
    "  ops/operator     team:ops       only itself     not asked",
    "    ops (exists already)",
    "",
    "  ci/secrets requests user:my-login: denied",
    "  ops/drift requests an organization token: denied",
    "  ops/default requests team:ops: denied",
    "",
    "  not asked for the role: EKS Pod Identity issues the credentials of a role only",
    "  to its agent on a node of the cluster. To see its trust policy: npm start --",
    "  --policies. The simulation evaluates it.",
    "",
    "  27 of 27 checks passed (4 service accounts, 17 callers).",
    "",
    "Answers that the documentation leaves open",
    "  Does a rule on aud match an element of a list? Yes: ci/secrets was allowed,",
    "    and denied with another audience.",
    "  How does Pulumi Cloud deny? HTTP 400 with error and error_description, such",
  ]);
  assert.ok(lines.every((line) => line.length <= 80));
  assert.deepEqual([exitCode, left], [0, []]);
  // Nothing is asked twice, and no ID token is requested twice.
  assert.deepEqual([exchanges() - before, sentToSts.length], [17, 10]);
  assert.deepEqual([tokens.length, new Set(tokens).size], [16, 16]);

  const kubeconfig = calls.flatMap(({ args }) => args).find((arg) => arg.startsWith("--kubeconfig=")) ?? "";
  for (const { tool, args, environment } of calls) {
    // Otherwise the CLI would ask the Pulumi Cloud of its login.
    const backend = JSON.stringify({ PULUMI_BACKEND_URL: simulation.pulumiCloud.apiUrl });
    if (args[0] === "api") assert.equal(environment, backend);
    if (args[1] === "token") assert.ok(args.includes("--duration=600s"));
    if (tool !== "kubectl") continue;
    assert.ok(args.includes(kubeconfig) && args.includes("--request-timeout=20s"));
    // In the temporary directory, too, not in the home directory.
    assert.ok(args.includes(kubeconfig.replace(/^--kubeconfig=(.*)\/.*$/, "--cache-dir=$1/cache")));
  }
});

test("asks at most eight questions at a time, reports them in their order, and shows its progress on a terminal", async (t) => {
  useTerminal(t, process.stderr);
  const written: string[] = [];
  t.mock.method(process.stderr, "write", (text: string) => written.push(text));
  let [running, atOnce, waiting] = [0, 0, 40];
  const { stdout, calls } = await checkLive(stack, {
    allPairs: true,
    verbose: true,
    environment: { AWS_ENDPOINT_URL_STS: STS_URL },
    async answer(stdout, { args }) {
      running += 1;
      atOnce = Math.max(atOnce, running);
      // The later a question is asked, the sooner it is answered.
      if (args[0] === "sts") waiting -= 1;
      await sleep(waiting);
      running -= 1;
      return stdout;
    },
  });
  assert.equal(atOnce, 8);
  assert.match(stdout, /39 of 39 checks passed \(4 service accounts, 25 callers\)\./);
  const callers = [...stdout.matchAll(/^ {4}([\w /]+): .* by/gm)].map(([, caller]) => caller);
  const [other, defect] = ["other audience", "invalid signature"];
  assert.deepEqual(callers.slice(0, 6), ["itself", "itself", other, defect, defect, "ci/default"]);
  const sts = calls.filter(({ args }) => args[0] === "sts");
  assert.ok(sts.every(({ args }) => args.includes(`--endpoint-url=${STS_URL}`)));

  const progress = written.join("");
  assert.match(
    progress,
    /pulumi preview --refresh reads.*reading the OIDC issuer.*reading the ConfigMaps.*1 of 39 answers.*39 of 39 answers/s,
  );
  assert.ok(progress.endsWith("\r\u001b[K"));
});

test("uses the region of the stack, then that of the environment, or names the command that sets it", async () => {
  const { "aws:region": _, ...config } = stack.config;
  const withoutRegion = { ...stack, config };
  const [one, two] = [{ AWS_REGION: "eu-west-1" }, { AWS_DEFAULT_REGION: "eu-west-2" }];
  for (const [checked, environment, region] of [
    [stack, { ...one, ...two }, "us-west-2"],
    [withoutRegion, { ...one, ...two }, "eu-west-1"],
    [withoutRegion, two, "eu-west-2"],
  ] as const) {
    const { calls } = await checkLive(checked, { environment, answer: edit(STS, ALL, "error:") });
    const sts = calls.find(({ args }) => args[0] === "sts");
    assert.ok(sts?.args.includes(`--region=${region}`), region);
  }
  const { exitCode, errors } = await checkLive(withoutRegion);
  assert.equal(errors, "The region is not set. To set it: pulumi config set aws:region REGION --stack prod");
  assert.equal(exitCode, 2);

  // Without IRSA, nothing needs it.
  const withoutIrsa = edit(PREVIEW, '"awsRole":"irsa"', '"awsRole":"none"');
  assert.equal((await checkLive(withoutRegion, { answer: withoutIrsa })).exitCode, 0);
});

/** Adds a component "green" to the preview, whose own part of it is edited. */
function withGreen(edited: Edit): Edit {
  return async (stdout, call) => {
    if (call.args[0] !== "preview") return stdout;
    const renamed = stdout
      .replaceAll("::access", "::green")
      .replaceAll('"name":"access', '"name":"green')
      .replaceAll("providers:kubernetes::cluster", "providers:kubernetes::green");
    const { steps, ...plan } = JSON.parse(stdout);
    const green = JSON.parse(await edited(renamed, call));
    return JSON.stringify({ ...plan, steps: [...steps, ...green.steps] });
  };
}

test("checks one component after the other, each with its heading", async () => {
  const additional = edit(PREVIEW, '"maxExpirationSeconds":60', '"maxExpirationSeconds":61');
  const { exitCode, stdout } = await checkLive(stack, { answer: withGreen(additional) });
  const [, access = "", green = ""] = stdout.split(/^Component /m);
  assert.match(access, /^access\n.*^ {2}There are none.*^ {2}27 of 27 checks passed/ms);
  assert.match(green, /^green\n.*^ {2}The issuer's maxExpiration .*^ {2}27 of 27 checks passed/ms);
  assert.equal(exitCode, 1);
});

test("requests no token of one component if another one cannot be checked", async () => {
  const before = exchanges();
  const secret = edit(PREVIEW, KUBECONFIG, '"kubeconfig":"[secret]"');
  const { exitCode, errors, tokens } = await checkLive(stack, { answer: withGreen(secret) });
  assert.match(errors, /"green" is secret or absent\. No token was sent\./);
  assert.deepEqual([exitCode, exchanges() - before, tokens], [2, 0, []]);
});

test("lists what differs from the program, asks nothing, and exits 1", async () => {
  const data = {
    "exchange-token.sh": "curl example.com\u001b[2J",
    organization: "mallory",
    tokenScope: ACCESS_TOKEN,
  };
  const before = exchanges();
  const { exitCode, stdout, errors, calls } = await checkLive(stack, {
    answer: editSteps((step) => {
      if (!step.urn.endsWith("::access.ops.drift.pulumi-token-exchange")) return step;
      return { ...step, op: "update", oldState: { ...step.oldState, inputs: { data } } };
    }),
  });
  const flow = inOneLine(stdout);
  assert.match(flow, /update: kubernetes:core\/v1:ConfigMap access\.ops\.drift\.pulumi-token-exchange /);
  assert.match(
    flow,
    / data\.exchange-token\.sh: "curl example\.com\\u001b\[2J" → "#!\/usr\/bin\/env bash\\n[^→]*… /,
  );
  assert.match(flow, / data\.organization: "mallory" → "acme" /);
  assert.match(flow, / data\.tokenScope: "\[redacted\]" → "team:ops" /);
  assert.match(flow, / data\.tokenType: none → "team" /);
  assert.match(flow, /To see all of it: pulumi preview --refresh --diff --stack prod/);
  assert.deepEqual([exitCode, errors, exchanges() - before, calls.length], [1, "", 0, 1]);
});

test("counts what differs elsewhere in the program, and asks", async () => {
  const answer = editSteps((step) =>
    step.urn.endsWith("::pulumi-cloud.url") ? { ...step, op: "update" } : step,
  );
  const { exitCode, stdout } = await checkLive(stack, { answer });
  assert.match(stdout, /^ {2}Elsewhere in the program, 1 resource differs\.$/m);
  assert.match(stdout, /27 of 27 checks passed/);
  assert.equal(exitCode, 0);
});

test("exits 1 if only AWS STS denies an intended caller, with what to compare", async () => {
  const denial = `error:${stsError("AccessDenied", "Not authorized")}`;
  const { exitCode, stdout } = await checkLive(stack, { answer: edit(STS, ALL, denial) });
  const row = "itself: denied by IAM role (AccessDenied: Not authorized). Compare the trust policy";
  assert.ok(inOneLine(stdout).includes(row), stdout);
  assert.equal(exitCode, 1);
});

test("exits 1 and marks the row and the policy if a policy is too wide", async (t) => {
  const name = '"kubernetes.io".serviceaccount.name';
  await changePolicies(t, simulation, ([first, ...others]) => [
    { ...first, rules: { ...first?.rules, [name]: "d*" } } as AuthPolicy,
    ...others,
  ]);
  useTerminal(t, process.stdout);
  const { exitCode, stdout } = await checkLive(stack, { environment: { NO_COLOR: "", TERM: "xterm" } });
  const [yellow = "", reset = ""] = styleText("yellow", "|").split("|");
  const lines = stdout.split("\n").filter((line) => line.startsWith(yellow));
  const marked = lines.map((line) => line.replace(yellow, "").replace(reset, ""));
  assert.deepEqual(marked, [
    '  A policy is not the program\'s: { "decision": "allow", "rules": {',
    '    "\\"kubernetes.io\\".namespace": "ci",',
    '    "\\"kubernetes.io\\".serviceaccount.name": "d*" }, "tokenType": "personal",',
    '    "userLogin": "my-login" }',
    "  ci/deployer      user:my-login  1 unexpected    only itself",
    "    ci/default: allowed by Pulumi Cloud. No setting allows this. Compare the",
    "      allow policy with npm start -- --policies.",
    "  26 of 27 checks passed (4 service accounts, 17 callers).",
  ]);
  assert.equal(exitCode, 1);
});

/** Returns the additions that a check finds, each in one line. Every question is answered as intended. */
async function additionsIn(...changes: Edit[]): Promise<string[]> {
  const { exitCode, stdout, errors } = await checkLive(stack, {
    async answer(stdout, call) {
      let edited = stdout;
      for (const change of changes) edited = await change(edited, call);
      return edited;
    },
  });
  assert.deepEqual([exitCode, errors], [1, ""]);
  assert.match(stdout, /27 of 27 checks passed/);
  const [, found = ""] = /^Additions that no preview shows\n {2}(.*?)\n\n/ms.exec(stdout) ?? [];
  return found.split(/\n {2}(?! )/).map(inOneLine);
}

test("exits 1 if anything was added or changed that no preview shows, though every answer is the intended one", async () => {
  const { url } = simulation.issuer;
  const added = `"policies": [{ "decision": "allow", "userLogin": "${ACCESS_TOKEN}" },`;
  const policy = (rest: string) => `A policy is not the program's: { "decision": "allow", ${rest} }`;
  const found = await additionsIn(
    edit(ISSUERS, '"name":', '"jwks": { "keys": [{ "kty": "RSA", "n": "…", "e": "AQAB" }] }, "name":'),
    edit(ISSUERS, '"name":', '"thumbprints": ["0a", "0b"], "name":'),
    edit(ISSUERS, /(?<="maxExpiration": )60/g, "90"),
    edit(ISSUERS, /(?<="issuer": )".*"/g, `"https://x/\\u202e${ACCESS_TOKEN}"`),
    edit(ISSUERS, /(?<="url": )".*"/g, '"https://x"'),
    // The provider does not read a role.
    edit(POLICIES, '"tokenType": "personal"', '"tokenType": "personal", "roleID": "admin"'),
    edit(POLICIES, '"policies": [', added),
    edit("-- deployer-pulumi", '"data":{', '"binaryData":{"\u202e":""},"data":{"constructor":"x",'),
  );
  const rules =
    '"rules": { "\\"kubernetes.io\\".namespace": "ci", "\\"kubernetes.io\\".serviceaccount.name": ';
  assert.deepEqual(found, [
    "The issuer has its own keys in jwks. Their owner can act as every service account.",
    "The issuer has thumbprints that it did not have after the last update: 0a, 0b",
    "The issuer's maxExpiration is 90. The program says 60.",
    `The issuer's issuer is https://x/\\u{202e}[redacted]. The program says ${url}.`,
    `The issuer's url is https://x. The program says ${url}.`,
    policy('"userLogin": "[redacted]"'),
    policy(`${rules}"deployer" }, "tokenType": "personal", "roleID": "admin", "userLogin": "my-login"`),
    "The ConfigMap of ci/deployer has the key constructor, which becomes a file.",
    "The ConfigMap of ci/deployer has the key \\u{202e}, which becomes a file.",
  ]);
});

test("compares the thumbprints with those of the last update, and counts no keys as none", async () => {
  for (const [recorded, registered, code] of [
    [["0a"], "0a", 0],
    [["0a"], "0b", 1],
    [null, "0a", 1],
  ] as const) {
    const { exitCode } = await checkLive(stack, {
      answer(stdout, call) {
        if (call.args[0] === "preview") return withThumbprints(stdout, recorded, registered);
        if (!call.args[1]?.endsWith("/oidc/issuers")) return stdout;
        return stdout.replace('"name":', `"jwks": {}, "thumbprints": ["${registered}"], "name":`);
      },
    });
    assert.equal(exitCode, code);
  }
});

/** Returns a preview in which the state has these thumbprints of the issuer, and the refresh finds another one. */
function withThumbprints(preview: string, recorded: readonly string[] | null, found: string): string {
  const { steps, ...plan } = JSON.parse(preview);
  for (const { op, urn, oldState } of steps) {
    const thumbprints = op === "refresh" ? recorded : [found];
    if (urn.endsWith("::access.oidc-issuer")) oldState.outputs = { thumbprints };
  }
  return JSON.stringify({ ...plan, steps });
}

test("finds another registration of the issuer's URL, however it is spelled, and that its own is gone", async () => {
  const own = { id: "a", url: "https://example.com/id/A", maxExpiration: 60 };
  const additionsAmong = (...oidcIssuers: object[]) => {
    const issuer = { ...own, organization: "acme", maxExpirationSeconds: 60, policies: [], thumbprints: [] };
    const run: Run = async () => JSON.stringify({ oidcIssuers });
    return findIssuerAdditions({ issuer, apiUrl: "https://api.pulumi.com" }, run);
  };
  const found = "The issuer URL is registered a second time, with the ID b.";
  for (const url of [":443/id/A", "//id/A", "/id/A/", "/id/a"].map((path) => `https://EXAMPLE.com${path}`)) {
    assert.deepEqual(await additionsAmong(own, { id: "b", url }), [found], url);
  }
  const gone = "The issuer with the ID a is not registered.";
  assert.deepEqual(await additionsAmong({ id: "b", url: "https://other", issuer: own.url }), [found, gone]);
  for (const url of ["https://example.com/id/B", "https://example.com:444/id/A"]) {
    assert.deepEqual(await additionsAmong(own, { id: "b", url }), [], url);
  }
});

test("does not ask for a token whose allow policy has a rule on a pod", async () => {
  const onPod = { '"kubernetes.io".pod.name': "drift-*" };
  const { exitCode, stdout } = await checkLive(stack, {
    answer: editSteps((step) => {
      const state = JSON.stringify(step.newState).replace(
        '"rules":{',
        `"rules":{${JSON.stringify(onPod).slice(1, -1)},`,
      );
      return step.urn.endsWith("::access.oidc-issuer") ? { ...step, newState: JSON.parse(state) } : step;
    }),
  });
  assert.match(stdout, /^ {2}ci\/deployer +user:my-login +not asked +only itself$/m);
  assert.match(stdout, /not asked for the token: a rule of the allow policy is on a pod/);
  assert.match(stdout, /26 of 26 checks passed/);
  // The policy in Pulumi Cloud does not have it.
  assert.equal(exitCode, 1);
});

describe("the cluster of a component", () => {
  const kubeconfigs = temporaryDirectory({ after });
  const kubectlOf = async (run: LiveRun) => {
    const { exitCode, errors, calls, files } = await checkLive(stack, run);
    const options = calls.find(({ tool }) => tool === "kubectl")?.args ?? [];
    return { exitCode, errors, options, files };
  };

  test("is that of its own Kubernetes provider, with its context and cluster", async () => {
    const provider = '"kubeconfig":"~/a","context":"b","cluster":"c"';
    for (const [answer, expected] of [
      [edit(PREVIEW, KUBECONFIG, provider), /--kubeconfig=\S+\/kubeconfig --context=b --cluster=c /],
      [
        edit(PREVIEW, KUBECONFIG, `"kubeconfig":"${relative(ROOT, kubeconfigs)}"`),
        RegExp(`--kubeconfig=${kubeconfigs} `),
      ],
    ] as const) {
      const { exitCode, options } = await kubectlOf({ answer });
      assert.match(options.join(" "), expected);
      assert.equal(exitCode, 0);
    }
  });

  test("is the one that the user names, for a kubeconfig that is secret or absent", async () => {
    for (const value of ['"kubeconfig":"[secret]"', '"other":"a"']) {
      const answer = edit(PREVIEW, KUBECONFIG, value);
      for (const [kubeconfig, file] of [
        [["access=a", "other"], join(process.cwd(), "a")],
        [["a"], join(process.cwd(), "a")],
        [["/b=c/file"], "/b=c/file"],
      ] as const) {
        const { exitCode, options } = await kubectlOf({ answer, kubeconfig: [...kubeconfig] });
        assert.ok(options.includes(`--kubeconfig=${file}`), options.join(" "));
        assert.equal(exitCode, 0);
      }
      const { exitCode, errors, options } = await kubectlOf({ answer });
      assert.match(
        errors,
        /"access" is secret or absent\. No token was sent\. To name it: --kubeconfig access=FILE$/,
      );
      assert.deepEqual([exitCode, options], [2, []]);
    }
  });

  test("is never that of an option that names no component or no file", async () => {
    for (const option of ["acces=a", "access=", ""]) {
      const { exitCode, errors, options } = await kubectlOf({ kubeconfig: ["a", option] });
      assert.equal(
        errors,
        `--kubeconfig is "${option}". It must be FILE or COMPONENT=FILE, with a component of the program: access. No token was sent.`,
      );
      assert.deepEqual([exitCode, options], [2, []]);
    }
  });
});

test("exits 1 if an intended caller is denied, and leaves the question about aud open if any is accepted", async (t) => {
  await changePolicies(t, simulation, (policies) =>
    policies.map(({ rules: { aud, ...rules }, ...policy }) => {
      return { ...policy, rules: aud ? rules : { ...rules, aud: "someone-else" } };
    }),
  );
  const { exitCode, stdout } = await checkLive(stack);
  assert.match(stdout, /^ {4}itself: denied by Pulumi Cloud .*\bCheck\s+policyRules,/ms);
  assert.match(stdout, /\d+ of \d+ checks passed .* match an element of a list\? Unknown\./s);
  assert.equal(exitCode, 1);
});

/** Starts a Pulumi Cloud that answers so, and returns its URL. */
async function pulumiCloud(t: TestContext, answers: Answer | Answer[]): Promise<string> {
  const certificate = await emulatorCertificate();
  const { url, close } = await startEndpoint(answers, certificate);
  t.after(close);
  return url;
}

/** Makes another Pulumi Cloud that of the stack. */
function pulumiCloudAt(url: string): Edit {
  return (stdout) => stdout.replaceAll(simulation.pulumiCloud.apiUrl, url);
}

test("shows an example of each form of a denial, in the order of the answers", async (t) => {
  const url = await pulumiCloud(t, [
    respond(400, { error: "first" }),
    respond(403, { message: "second" }),
    respond(403, { message: "third" }),
  ]);
  const { stdout } = await checkLive(stack, { answer: pulumiCloudAt(url) });
  assert.deepEqual(stdout.match(/How does Pulumi Cloud deny\?[^?]*$/gm), [
    "How does Pulumi Cloud deny? HTTP 400 with error, such as: first",
    "How does Pulumi Cloud deny? HTTP 403 with message, such as: second",
  ]);
});

/** Asserts that the check stops before it sends a token, and that its message contains none. */
async function assertUnsent(run: LiveRun, message: string): Promise<void> {
  const before = exchanges();
  const { exitCode, stdout, errors, sentToSts } = await checkLive(stack, run);
  assert.ok(errors.includes(message), errors);
  // No heading without its text.
  assert.match(stdout, /\.$/);
  assert.ok(!errors.includes(ACCESS_TOKEN), errors);
  assert.deepEqual([exitCode, exchanges() - before, sentToSts], [2, 0, []]);
}

// As the AWS provider reports it, after the URN of the resource.
const REQUEST = `operation error IAM: GetRole, https response error StatusCode: 403, RequestID: ${"0".repeat(36)}`;
const READING = `refreshing urn:pulumi:prod::${"p".repeat(60)}::aws:iam/role:Role::access.ci.deployer: reading IAM Role (x): ${REQUEST}`;
const ADVICE = "To see all of it: pulumi preview --refresh --diff --stack prod";
const UNSENT = "No token was sent. This needs the permission";
const ADMIN =
  "in organization acme, which the role Admin contains, and a login. To sign in: pulumi login https:";
const CLOUD_ERROR = 'error:warning\n{ "error": { "code": "x", "message": "HTTP 403" } }';
const ID = /"id":"acme\/(?=[\w-]+")/g;
const ARN = /(?<="arn":)"[^"]+"/g;
const REGION = /(?<="aws:region":)"us-west-2"/g;
for (const [calls, pattern, replacement, message] of [
  [PREVIEW, ALL, `error:error: ${READING}: \u001b[2J`, `no token was sent: ${READING}: \\u{1b}[2J ${ADVICE}`],
  [PREVIEW, ALL, "error:error: no stack named 'x'", "one? npm start -- --live --stack ORGANIZATION/prod"],
  [PREVIEW, ALL, "error:", "so no token was sent: Failed to run pulumi"],
  [PREVIEW, /"oldState":/g, '"x":', "not deployed. To deploy it: pulumi up --stack prod"],
  [PREVIEW, REGION, '"x.y/"', 'The region is "x.y/", which is not the name of an AWS region.'],
  [PREVIEW, ID, '"id":"acme/../', "The ID of the OIDC issuer in the state is invalid: acme/../"],
  [PREVIEW, ARN, '"https://x/arn:aws:iam::123456789012:role/x"', "The ARN of an IAM role in the state is"],
  [PREVIEW, ARN, '"arn:aws:iam::123456789012:user/me"', "The ARN of an IAM role in the state is invalid"],
  [ISSUERS, ALL, CLOUD_ERROR, `HTTP 403 ${UNSENT} oidc_issuers:read ${ADMIN}`],
  [POLICIES, ALL, "error:unknown", `unknown ${UNSENT} auth_policies:read`],
  [CONFIG_MAP, ALL, `error:\nUnauthorized: ${ACCESS_TOKEN}`, "Unauthorized: [redacted]"],
  [`${ID_TOKEN}operator`, ALL, "error:", "kubectl auth can-i create serviceaccounts/token --namespace ops"],
] as const) {
  test(`stops before any token is sent: ${inOneLine(message).slice(0, 70)}`, () =>
    assertUnsent({ answer: edit(calls, pattern, replacement) }, message));
}

test("stops before any token is sent if the kubeconfig points to a different cluster, or AWS STS has no TLS", async () => {
  const identity = { namespace: "ci", serviceAccount: "deployer" };
  const token = await simulation.otherIssuer.token(identity, { audience: ["x"], expiresIn: 600 });
  await assertUnsent({ answer: edit(ID_TOKEN, ALL, token) }, "a different cluster: its issuer is https://");
  const environment = { AWS_ENDPOINT_URL_STS: "http://127.0.0.1:9" };
  await assertUnsent({ environment }, "AWS_ENDPOINT_URL_STS is http://127.0.0.1:9. Set it to an https URL");
});

test("sends no token to a service whose certificate cannot be verified, whatever the environment says", async (t) => {
  const authority = await createCertificateAuthority();
  const endpoint = await startEndpoint(respond(200, {}), await authority.issue({ hosts: ["127.0.0.1"] }));
  t.after(endpoint.close);
  const environment = { NODE_TLS_REJECT_UNAUTHORIZED: "0" };
  const { exitCode, errors } = await checkLive(stack, { answer: pulumiCloudAt(endpoint.url), environment });
  const reason = "UNABLE_TO_VERIFY_LEAF_SIGNATURE. The check is incomplete; run it again.";
  assert.equal(errors, `Failed to ask Pulumi Cloud at ${endpoint.url}: ${reason}`);
  assert.deepEqual([exitCode, endpoint.requests], [2, []]);
});

test("ends the other questions once one cannot be answered", async () => {
  const before = exchanges();
  const { exitCode } = await checkLive(stack, { answer: edit("role/pulumi-oidc-ci-deployer", ALL, "None") });
  await sleep(500);
  assert.ok(exchanges() - before < 12, `${exchanges() - before} of 17`);
  assert.equal(exitCode, 2);
});

/** Asks one service one question, at a Pulumi Cloud or with an AWS CLI. */
function ask(service: Question["service"], apiUrl: string, run: Run = async () => assert.fail()) {
  const account = { settings: {}, role: { arn: ROLE, kind: "irsa" } } as ServiceAccount;
  const caller = { label: "itself", namespace: "ci", name: "deployer" };
  const services = { apiUrl, aws: { region: "us-west-2", stsUrl: undefined } };
  const stop = new AbortController().signal;
  return askServices(services, () => "TOKEN", run, stop)({ account, caller, service, intended: true });
}

/** Divides every time limit by 50. */
function hurry(t: TestContext): void {
  const { timeout } = AbortSignal;
  t.mock.method(AbortSignal, "timeout", (milliseconds: number) =>
    timeout.call(AbortSignal, milliseconds / 50),
  );
}

const ENDLESS = drip("HTTP/1.1 200 OK\r\n\r\n", "a".repeat(16_384), 1);
for (const [what, answer, reason] of [
  ["hangs", hang(), "no answer within 10 s. The check is incomplete; run it again."],
  ["redirects", respond(307, "", { Location: "https://127.0.0.1:9" }), "unexpected redirect"],
  ["is not reachable", (socket) => socket.destroy(), "UND_ERR_SOCKET"],
  ["returns HTTP 503", respond(503, { message: "Service Unavailable" }), "HTTP 503"],
  ["returns a page", respond(200, "<html></html>"), "HTTP 200"],
  ["never ends its answer", ENDLESS, "HTTP 200: the answer is longer than 64 KB."],
] satisfies [string, Answer, string][]) {
  test(`counts a question neither as allowed nor as denied if Pulumi Cloud ${what}`, {
    timeout: 60_000,
  }, async (t) => {
    const url = await pulumiCloud(t, answer);
    if (what === "hangs") hurry(t);
    await assert.rejects(ask("Pulumi Cloud", url), (error: Error) =>
      error.message.startsWith(`Failed to ask Pulumi Cloud at ${url}: ${reason}`),
    );
  });
}

/** Returns the failure of an AWS CLI, with what it has printed. */
function failing(stderr: string): Run {
  return () => Promise.reject(new ToolError("Failed to run aws", stderr));
}

// awsSts.engine.test.ts asks with the AWS CLI that is installed. This is the message of version 2.
const UNREACHABLE = 'Could not connect to the endpoint URL: "https://sts.us-west-2.amazonaws.com/"';
const INVALID = "InvalidIdentityToken";
const NO_KEYS = "Couldn't retrieve verification key from your identity provider";
for (const [what, run, reason] of [
  ["is not reachable", failing(`\naws: [ERROR]: ${UNREACHABLE}`), UNREACHABLE],
  ["returns a page", async () => "None", "the answer contains no session of the role"],
  ["cannot read the keys", failing(stsError(INVALID, NO_KEYS)), `${INVALID}: ${NO_KEYS}`],
] satisfies [string, Run, string][]) {
  test(`counts a question neither as allowed nor as denied if AWS STS ${what}`, async () => {
    const message = `Failed to ask AWS STS in us-west-2: ${reason}. The check is incomplete; run it again.`;
    await assert.rejects(ask("IAM role", "", run), { message });
  });
}

test("reads a denial of AWS STS as both versions of the AWS CLI print it, and shows its control characters", async () => {
  for (const [code, version] of [
    ["AccessDenied", "aws: [ERROR]: An error"],
    ["IDPRejectedClaim", "An error"],
    ["InvalidIdentityToken", "An error"],
  ] as const) {
    const denial = stsError(code, "No \u001b[2J").replace("An error", version);
    const answer = await ask("IAM role", "", failing(denial));
    assert.deepEqual(answer, { allowed: false, reason: `${code}: No \\u{1b}[2J` });
  }
});

test("shows no token in its output, in arguments, in environments, or in files, and no progress without a terminal", async (t) => {
  const progress = t.mock.method(process.stderr, "write", () => true);
  const check = await checkLive(stack, { verbose: true });
  const { exitCode, stdout, errors, files, calls, tokens, sentToSts } = check;
  assert.deepEqual([exitCode, errors, progress.mock.callCount()], [0, "", 0]);
  // The answer contained the token, and the files the kubeconfig.
  assert.match(inOneLine(stdout), /InvalidIdentityToken: Not authorized: \[redacted\]/);
  assert.ok(files.some((content) => content.includes('"kind":"Config"')));
  const seen = JSON.stringify([stdout, errors, files, calls.map(({ input, ...call }) => call)]);
  const parts = sentToSts.flatMap((token) => token.split("."));
  for (const secret of [...tokens, ...parts]) assert.ok(!seen.includes(secret));
  assert.doesNotMatch(seen, /pul-[0-9a-f]{10}|eyJ[\w-]+/);
});

/**
 * Pipes `npm start -- --live` into a reader, with a Pulumi CLI that previews the stack.
 *
 * @param next what the CLI runs for every other command.
 * @returns with `left`: the temporary files at the end.
 */
async function startLive(t: TestContext, next: string, reader: string) {
  const directory = temporaryDirectory(t);
  const [plan, TMPDIR] = [join(directory, "plan"), join(directory, "tmp")];
  await Promise.all([writeFile(plan, previewOf(stack)), mkdir(TMPDIR)]);
  const pulumi = `if [ "$1" = preview ]; then
  sleep 0.5 # until the reader has ended
  exec cat '${plan}'
fi
${next}`;
  const PATH = writePrograms(directory, { pulumi }, "/bin/sh");
  const start = [process.execPath, "--import", "tsx", "simulator/commandLine.ts", "--live", "--stack=prod"];
  const child = spawn("bash", ["-c", `"$@" | ${reader}; exit "\${PIPESTATUS[0]}"`, "bash", ...start], {
    cwd: ROOT,
    env: { ...process.env, PATH, TMPDIR },
    stdio: ["ignore", "pipe", "pipe"],
  });
  return { ...(await ended(child)), left: await readdir(TMPDIR) };
}

const HANG = "exec sleep 60";
for (const [what, next, code, error, reader = "cat"] of [
  ["SIGINT", `kill -INT $PPID\n${HANG}`, 130, /^$/],
  ["SIGTERM", `kill -TERM $PPID\n${HANG}`, 130, /^$/],
  ["an error", "exit 1", 2, /^Failed to run pulumi api /],
  ["its reader stops reading", HANG, 130, /^$/, "head -n 1"],
] satisfies [string, string, number, RegExp, string?][]) {
  test(`ends everything, leaves no file behind, and exits ${code} after ${what}`, async (t) => {
    const { exitCode, stdout, stderr, left } = await startLive(t, next, reader);
    assert.match(stdout, /^Live access check of stack prod: /);
    assert.match(stderr, error);
    assert.deepEqual([exitCode, left], [code, []]);
  });
}

test("ends a program after a minute or when it is interrupted, and says where to get one that is missing", async (t) => {
  const directory = temporaryDirectory(t);
  writePrograms(directory, { kubectl: `PATH='${process.env.PATH}'\nexec sleep 60` }, "/bin/sh");
  t.after(setVariables({ PATH: directory }));
  const stop = new AbortController();
  const run = toolRunner(stop.signal, ROOT);
  const startedAt = Date.now();

  // With the real time limit.
  const interrupted = run("kubectl", ["get", "pods"]);
  hurry(t);
  // Without its options, which name temporary files.
  await assert.rejects(run("kubectl", ["get", "configmap", "--kubeconfig=/tmp/x", "--", "settings"]), {
    message: "Failed to run kubectl get configmap settings: no answer within 60 s",
  });
  stop.abort();
  await assert.rejects(interrupted, /^Error: Failed to run kubectl get pods: .*aborted/);
  assert.ok(Date.now() - startedAt < 20_000);

  const missing = "pulumi is not on PATH. To install it: https://www.pulumi.com/docs/install/";
  await assert.rejects(toolRunner(new AbortController().signal, ROOT)("pulumi", []), { message: missing });
});

test("quotes a word in a command for the shell, so that a name cannot run another command", () => {
  const words = ["prod", "a b", "it's", "'; id '", "$(id)", "-", ""];
  const printed = execFileSync("bash", ["-c", `printf '%s\\n' ${words.map(shellQuoted).join(" ")}`]);
  assert.deepEqual(printed.toString().split("\n"), [...words, ""]);
});

test("redacts access tokens, shows characters that a terminal obeys, and cuts an answer before a token is complete", () => {
  const role = `pulumi-oidc-${"r".repeat(52)}`;
  assert.equal(redact(`a ${ACCESS_TOKEN} b`), "a [redacted] b");
  assert.equal(redact(`role ${role}, ${"k".repeat(65)}`), `role ${role}, [redacted]`);
  assert.equal(redact("one\ntwo \u001b[2J\u202e\u00a0"), "one\ntwo \\u{1b}[2J\\u{202e}\\u{a0}");
  const pieces = Array.from({ length: 40 }, (_, index) => `${index}`.padEnd(38, "k")).join(" ");
  assert.equal(shown(pieces).length, 200);
  assert.equal(printableJson(["\u202e\u009b"]), '[\n  "\\u202e\\u009b"\n]');
  assert.equal(shown("a\nb"), "a b");
  assert.equal(shown("\u202e".repeat(100)).length, 200);
});
