// The live check. Its programs (kubectl, aws, and pulumi) are functions that answer from the emulators, and Pulumi Cloud is the
// emulator's HTTPS endpoint. What requires a new process is tested with `npm start -- --live` and programs on PATH.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:https";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import { comparePolicies, findChangedPolicies } from "../../accessCheck/changedByHand";
import type { DeployedStack, IssuerPolicy } from "../../accessCheck/deployedStack";
import type { ServiceAccount } from "../../accessCheck/serviceAccounts";
import { redact, shellQuoted, shown } from "../../accessCheck/terminal";
import { ToolError, toolRunner } from "../../accessCheck/tools";
import type { AuthPolicy } from "../../simulator/emulators/authPolicy";
import { createCertificateAuthority, openCertificateAuthority } from "../../simulator/emulators/certificates";
import type { Simulation } from "../../simulator/emulators/simulation";
import { runProgram } from "../../simulator/runProgram";
import { type Answer, hang, respond, startEndpoint } from "../script/endpoint";
import { listen } from "../support/loopback";
import { changePolicies, stackOf, startCluster } from "../support/stack";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";
import { checkLive, type LiveRun, type LiveStack, SECRET_ACCESS_KEY, startLive, stsError } from "./liveTools";

const ROLE = "arn:aws:iam::123456789012:role/admin";
const YELLOW = "\u001b[33m";

// One stack that is up, for all tests.
let simulation: Simulation;
let stack: LiveStack;

before(async () => {
  simulation = await startCluster();
  const serviceAccounts = [
    { namespace: "ci", name: "deployer", tokenType: "personal", userLogin: "my-login" },
    {
      namespace: "ci",
      name: "secrets",
      tokenType: "organization",
      tokenAudience: "api",
      audienceRule: true,
      awsRole: "none",
    },
    { namespace: "ops", name: "drift", tokenType: "team", teamName: "ops" },
    { namespace: "ops", name: "operator", tokenType: "team", teamName: "ops" },
  ].map((entry) => ({ ...entry, runJob: false }));
  const program = stackOf({
    "aws:profile": "prod",
    "aws:assumeRoles": [{ roleArn: ROLE }],
    pulumiApiUrl: simulation.pulumiCloud.url,
    serviceAccounts,
  });
  const { outputs, registered } = await runProgram(simulation, { ...program, stack: "prod" });
  // Access tokens with a longer lifetime are denied: the check requests the shortest.
  const { id } = simulation.pulumiCloud.list()[0] ?? assert.fail("no issuer is registered");
  await simulation.pulumiCloud.update(id, { maxExpirationSeconds: 60 });
  stack = { simulation, config: program.config, outputs, registered };
});
after(() => simulation.close());

test("allows each of four service accounts only as itself, and answers the open questions", async () => {
  const before = exchanges();
  const { exitCode, lines, errors, calls, atOnce, sentToSts, left } = await checkLive(stack, { accounts: 4 });
  assert.equal(errors, "");
  assert.match(lines.join(" "), /audit logs .* serviceaccounts\/token, .* pull request's workflow/);
  assert.deepEqual(lines.slice(lines.indexOf("Access check")).slice(0, 24), [
    "Access check",
    "  Service account  Access token   Gets the token  Gets the role",
    "  ci/deployer      user:my-login  only itself     only itself",
    "  ci/secrets       organization   only itself     no role",
    "  ops/drift        team:ops       itself (+1)     only itself",
    "    (+1) granted the same access token: ops/operator",
    "  ops/operator     team:ops       only itself     only itself",
    "",
    "  ci/secrets requests user:my-login: denied",
    "  ops/drift requests an organization token: denied",
    "  ops/default requests team:ops: denied",
    "",
    "  32 of 32 checks passed (4 service accounts, 17 callers).",
    "",
    "Policies of the OIDC issuer in Pulumi Cloud",
    "  They are those that the program has generated.",
    "",
    "ConfigMaps in the cluster",
    "  They are those that the program has created.",
    "",
    "Answers that the documentation leaves open",
    "  Does a rule on aud match an element of a list? Yes: ci/secrets was allowed,",
    "    and denied with another audience.",
    "  How does Pulumi Cloud deny? HTTP 400 with error and error_description, such",
  ]);
  assert.ok(lines.every((line) => line.length <= 80));
  assert.deepEqual([exitCode, atOnce, left], [0, 1, []]);
  // Nothing is asked twice.
  assert.deepEqual([exchanges() - before, sentToSts.length], [17, 15]);

  const kubeconfig = calls.flatMap(({ args }) => args).find((arg) => arg.startsWith("--kubeconfig=")) ?? "";
  const options = ["--region=us-west-2", "--profile=prod", `--role-arn=${ROLE}`, `--assume-role-arn=${ROLE}`];
  const api = calls.filter(({ args }) => args[0] === "api");
  assert.equal(api.length, 2);
  for (const { environment } of api)
    assert.ok(environment.includes(`PULUMI_BACKEND_URL='${simulation.pulumiCloud.url}'`));

  const [connect, ...sts] = calls.filter(({ tool }) => tool === "aws");
  assert.deepEqual(connect?.args, ["eks", "update-kubeconfig", "--name=my-cluster", kubeconfig, ...options]);
  const kubectl = calls.filter(({ tool }) => tool === "kubectl");
  assert.ok(kubectl.every(({ args }) => args.includes(kubeconfig) && args.includes("--request-timeout=20s")));
  const tokenRequests = kubectl.filter(({ args }) => args[1] === "token");
  assert.ok(tokenRequests.every(({ args }) => args.includes("--duration=600s")));
  for (const { args, seconds } of sts) {
    assert.equal(seconds, 30);
    assert.match(args[2] ?? "", /^--role-arn=arn:aws:iam::\d{12}:role\/pulumi-oidc-/);
    assert.deepEqual([...args.slice(0, 2), ...args.slice(3)], STS_COMMAND);
  }
});

const STS_COMMAND = [
  "sts",
  "assume-role-with-web-identity",
  "--role-session-name=live-access-check",
  "--duration-seconds=900",
  "--web-identity-token=file:///dev/stdin",
  "--no-sign-request",
  "--region=us-west-2",
  "--cli-connect-timeout=10",
  "--cli-read-timeout=10",
  "--query=AssumedRoleUser.Arn",
  "--output=text",
];

test("runs the AWS CLI for AWS STS without the user's configuration, except for its certificate authorities", async () => {
  const environment = {
    AWS_ENDPOINT_URL_STS: "https://vpce-1.sts.us-west-2.vpce.amazonaws.com",
    AWS_ENDPOINT_URL: "https://example.com",
    AWS_PROFILE: "other",
    AWS_CONFIG_FILE: "/home/me/.aws/config",
    AWS_STS_REGIONAL_ENDPOINTS: "legacy",
    AWS_CA_BUNDLE: "/etc/ssl/private-ca.pem",
  };
  const { exitCode, calls } = await checkLive(stack, { environment });
  assert.equal(exitCode, 0);
  const [first, ...others] = calls.filter(({ args }) => args[0] === "sts");
  assert.ok(first && others.length > 0);
  for (const { args, environment } of [first, ...others]) {
    const own = environment.match(/^AWS_.*/gm)?.sort();
    assert.deepEqual(own, [
      "AWS_CA_BUNDLE='/etc/ssl/private-ca.pem'",
      "AWS_CONFIG_FILE='/dev/null'",
      "AWS_MAX_ATTEMPTS='1'",
      "AWS_SHARED_CREDENTIALS_FILE='/dev/null'",
      "AWS_STS_REGIONAL_ENDPOINTS='regional'",
    ]);
    assert.ok(args.includes("--endpoint-url=https://vpce-1.sts.us-west-2.vpce.amazonaws.com"));
  }
});

test("uses the region of the stack, whatever the environment says", async () => {
  const environment = { AWS_REGION: "eu-west-1", AWS_DEFAULT_REGION: "eu-west-1" };
  const { exitCode, calls } = await checkLive(stack, { environment });
  assert.equal(exitCode, 0);
  for (const { args } of calls.filter(({ tool }) => tool === "aws")) {
    assert.ok(args.includes("--region=us-west-2"), args.join(" "));
  }
});

test("uses the region of the environment if the stack does not set one, or names the command that sets it", async () => {
  const { "aws:region": _, ...config } = stack.config;
  const withoutRegion = { ...stack, config };
  for (const [environment, region] of [
    [{ AWS_REGION: "eu-west-1", AWS_DEFAULT_REGION: "eu-west-2" }, "eu-west-1"],
    [{ AWS_DEFAULT_REGION: "eu-west-2" }, "eu-west-2"],
  ] as const) {
    const { calls } = await checkLive(withoutRegion, { environment });
    assert.ok(calls.find(({ tool }) => tool === "aws")?.args.includes(`--region=${region}`));
  }
  const { exitCode, errors } = await checkLive(withoutRegion);
  assert.equal(errors, "The region is not set. To set it: pulumi config set aws:region REGION --stack prod");
  assert.equal(exitCode, 2);
});

test("asks as every other service account with --all-pairs", async () => {
  const { exitCode, stdout } = await checkLive(stack, { accounts: 4, allPairs: true });
  assert.match(stdout, /46 of 46 checks passed \(4 service accounts, 25 callers\)\./);
  assert.equal(exitCode, 0);
});

test("exits 1 and marks the row if a policy is too wide", async (t) => {
  const name = '"kubernetes.io".serviceaccount.name';
  await changePolicies(t, simulation, (policies) => {
    return policies.map((policy) =>
      policy.rules[name] === "deployer" ? { ...policy, rules: { ...policy.rules, [name]: "d*" } } : policy,
    );
  });
  const { isTTY } = process.stdout;
  process.stdout.isTTY = true;
  t.after(() => {
    process.stdout.isTTY = isTTY;
  });
  const { exitCode, lines, stdout } = await checkLive(stack, { accounts: 2, environment: { NO_COLOR: "" } });
  assert.match(
    stdout,
    /^ {2}To see what was changed by hand: pulumi preview --refresh --diff --stack prod$/m,
  );
  const marked = lines.filter((line) => line.startsWith(YELLOW)).map((line) => line.slice(YELLOW.length, -5));
  assert.ok(marked.every((line) => line.length <= 80));
  assert.deepEqual(marked.slice(0, 5), [
    "  ci/deployer      user:my-login  1 unexpected    only itself",
    "    ci/default: allowed by Pulumi Cloud. No setting allows this. Compare the",
    "      allow policy with npm start -- --policies.",
    "  13 of 14 checks passed (2 service accounts, 9 callers).",
    "  The policy of ci/deployer was changed or removed by hand:",
  ]);
  const policies = `${ofDeployer("deployer")} A policy was added or changed by hand: ${ofDeployer("d*")}`;
  assert.equal(marked.slice(5).join(" ").replaceAll(/\s+/g, " ").trim(), policies);
  assert.equal(exitCode, 1);
});

/** The policy of ci/deployer with a pattern for its name, as the report prints it. */
function ofDeployer(name: string): string {
  return `{ "decision": "allow", "rules": { "\\"kubernetes.io\\".namespace": "ci", "\\"kubernetes.io\\".serviceaccount.name": "${name}" }, "tokenType": "personal", "userLogin": "my-login" }`;
}

const EVERY_POD = { sub: "system:serviceaccount:*" };

for (const [what, change, findings] of [
  [
    "another policy allows every pod another token",
    (policies) => [
      ...policies,
      { decision: "allow", tokenType: "personal", userLogin: "admin", rules: EVERY_POD },
    ],
    [
      'A policy was added or changed by hand: { "decision": "allow", "rules": { "sub": "system:serviceaccount:*" }, "tokenType": "personal", "userLogin": "admin" }',
    ],
  ],
  [
    "a policy denies a token",
    (policies) => [
      ...policies,
      { decision: "deny", tokenType: "team", teamName: "ops", rules: { sub: "someone" } },
    ],
    [
      'A policy was added or changed by hand: { "decision": "deny", "rules": { "sub": "someone" }, "teamName": "ops", "tokenType": "team" }',
    ],
  ],
  [
    "the policy of a service account is gone",
    (policies) => policies.slice(1),
    [`The policy of ci/deployer was changed or removed by hand: ${ofDeployer("deployer")}`],
  ],
  [
    "a policy grants a role, which the program never does",
    ([first, ...others]) => [{ ...first, roleID: "admin" } as AuthPolicy, ...others],
    ["The policy of ci/deployer was changed or removed by hand:", '"roleID": "admin"'],
  ],
] satisfies [string, (policies: AuthPolicy[]) => AuthPolicy[], string[]][]) {
  test(`exits 1 if ${what}, though no caller that it asks as is allowed`, async (t) => {
    await changePolicies(t, simulation, change);
    const { exitCode, stdout } = await checkLive(stack, { accounts: 4 });
    const [, printed = ""] =
      /^Policies of the OIDC issuer in Pulumi Cloud$(.*?)^ {2}To see what/ms.exec(stdout) ?? [];
    for (const finding of findings) assert.ok(printed.replaceAll(/\s+/g, " ").includes(finding), printed);
    assert.equal(exitCode, 1);
  });
}

test("finds a policy that pulumi refresh has written to the state, and ignores the order", async (t) => {
  await changePolicies(t, simulation, (policies) => [
    { decision: "allow", tokenType: "organization", authorizedPermissions: ["admin"], rules: EVERY_POD },
    ...policies.toReversed(),
  ]);
  const actual = simulation.pulumiCloud.list()[0]?.registration.policies;
  const registered = stack.registered.map((it) =>
    it.type === "pulumiservice:index:OidcIssuer" ? { ...it, inputs: { ...it.inputs, policies: actual } } : it,
  );
  const { exitCode, stdout } = await checkLive({ ...stack, registered }, { accounts: 4 });
  assert.match(
    stdout,
    /^ {2}A policy was added or changed by hand:\n {4}\{ "authorizedPermissions": \[ "admin" \],/m,
  );
  assert.equal(stdout.match(/by hand[:.]$/gm)?.length, 1);
  assert.equal(exitCode, 1);
});

test("exits 1 if the issuer was deleted by hand, with the policies that are gone", async () => {
  const { exitCode, stdout } = await checkLive(stack, {
    answer: (printed, { args }) =>
      args[1]?.endsWith("/oidc/issuers") ? JSON.stringify({ oidcIssuers: [] }) : printed,
  });
  assert.match(stdout, /^ {2}The policy of ci\/deployer was changed or removed by hand:$/m);
  assert.equal(exitCode, 1);
});

test("redacts what could be a token in a policy that was added by hand", async (t) => {
  const token = `pul-${"0123456789".repeat(4)}`;
  const added: AuthPolicy = { decision: "allow", tokenType: "personal", userLogin: token, rules: EVERY_POD };
  await changePolicies(t, simulation, (policies) => [...policies, added]);
  const { exitCode, stdout } = await checkLive(stack, { accounts: 1 });
  assert.match(
    stdout.replaceAll(/\s+/g, " "),
    /A policy was added or changed by hand: .*"userLogin": "\[redacted\]"/,
  );
  assert.ok(!stdout.includes(token));
  assert.equal(exitCode, 1);
});

const DEPLOYER: ServiceAccount = {
  namespace: "ci",
  name: "deployer",
  tokenType: "personal",
  tokenScope: "user:my-login",
  audience: "urn:pulumi:org:acme",
  audienceRule: false,
  settings: {},
  role: undefined,
};

/** The policy that the program generates for it, with another rule. */
function policyOf(rules: Record<string, string> = {}): IssuerPolicy {
  const names = { '"kubernetes.io".namespace': "ci", '"kubernetes.io".serviceaccount.name': "deployer" };
  return { decision: "allow", tokenType: "personal", userLogin: "my-login", rules: { ...names, ...rules } };
}

test("finds a policy that denies the token of a service account, also if the state contains it", () => {
  const denial = { ...policyOf(), decision: "deny" };
  const policies = [policyOf(), denial];
  const [{ heading, details } = assert.fail("found nothing"), ...others] = comparePolicies(
    policies,
    policies,
    [DEPLOYER],
  );
  assert.match(heading, /added/);
  assert.match(details.join(), /"deny"/);
  assert.deepEqual(others, []);
});

for (const [tokenType, tokenScope, changes] of [
  ["personal", "user:my-login", { userLogin: "admin" }],
  ["team", "team:ops", { teamName: "admins" }],
  ["organization", "", { authorizedPermissions: ["admin"] }],
  ["organization", "admin", {}],
  ["runner", "runner:pool", {}],
] satisfies [string, string, IssuerPolicy][]) {
  test(`finds a policy with any token other than ${tokenScope || tokenType}, also if the state contains it`, () => {
    const { userLogin, ...policy } = policyOf();
    const policies = [{ ...policy, tokenType, ...changes }];
    const found = comparePolicies(policies, policies, [{ ...DEPLOYER, tokenType, tokenScope }]);
    assert.deepEqual(
      found.map(({ heading }) => heading),
      ["A policy was added or changed by hand:"],
    );
  });
}

test("ignores the ID of a policy, but no rule on a claim named id", () => {
  const policy = policyOf({ id: "a" });
  assert.deepEqual(comparePolicies([{ ...policy, id: "1" } as IssuerPolicy], [policy], [DEPLOYER]), []);

  const [missing, added] = comparePolicies([policyOf({ id: "*" })], [policy], [DEPLOYER]);
  assert.match(missing?.details.join() ?? "", /"id": "a"/);
  assert.match(added?.details.join() ?? "", /"id": "\*"/);
});

test("ignores the order of lists, null values, and empty lists of a policy, also in its rules", () => {
  const policy = { ...policyOf(), authorizedPermissions: ["a", "b"] };
  const rules = { ...policy.rules, sub: null, aud: [] };
  const completed = { ...policy, rules, authorizedPermissions: ["b", "a"], roleID: null, scopes: [] };
  assert.deepEqual(comparePolicies([completed as unknown as IssuerPolicy], [policy], [DEPLOYER]), []);
});

test("reports a policy once that was added twice by hand", () => {
  const added = policyOf({ sub: "*" });
  const changes = comparePolicies([policyOf(), added, { ...added }], [policyOf()], [DEPLOYER]);
  assert.equal(changes.length, 1);
});

test("reports a failure of pulumi api by its message, and the command that signs in on its own line", async () => {
  const issuer = { organization: "acme", pulumiCloudUrl: "https://api.pulumi.com" } as DeployedStack;
  const failure = (stderr: string) =>
    findChangedPolicies(issuer, [], async () => {
      throw new ToolError(`Failed to run pulumi: ${stderr}`, stderr);
    });
  const advice =
    "No token was sent. This needs the right oidc_issuers:read in organization acme, which the role Admin contains, and a login.\nTo sign in: pulumi login https://api.pulumi.com";
  await assert.rejects(
    failure(`warning\n${JSON.stringify({ error: { code: "x", message: "no route" } })}\n`),
    {
      message: `Failed to run pulumi api /api/orgs/acme/oidc/issuers: no route\n${advice}`,
    },
  );
  await assert.rejects(failure("unknown command"), {
    message: `Failed to run pulumi: unknown command\n${advice}`,
  });
});

/** The line that `pulumi api` prints on standard error. Programs of this test fail with what begins with `error:`. */
function apiError(code: string, httpStatus: number, message: string): string {
  const error = { code: `pulumi.cloud_api.${code}`, severity: "error", message, httpStatus };
  return `error:\n${JSON.stringify({ error })}`;
}

test("exits 1 if an intended caller is denied, and leaves the question about aud open", async (t) => {
  await changePolicies(t, simulation, (policies) => {
    return policies.map((policy) => ({ ...policy, rules: { ...policy.rules, aud: "someone-else" } }));
  });
  const { exitCode, stdout } = await checkLive(stack, { accounts: 2 });
  assert.match(stdout, /^ {4}itself: denied by Pulumi Cloud .*\bCheck\s+policyRules,/ms);
  assert.match(stdout, /\d+ of \d+ checks passed .* match an element of a list\? Unknown\./s);
  assert.equal(exitCode, 1);
});

test("shows an example of each form of a denial, in the order of the answers", async (t) => {
  const certificate = await (await openCertificateAuthority()).issue({ hosts: ["127.0.0.1"] });
  const denials = [
    respond(400, { error: "first" }),
    respond(403, { message: "second" }),
    respond(403, { message: "third" }),
  ];
  const { url, close } = await startEndpoint(denials, certificate);
  t.after(close);
  const { lines } = await checkLive(stack, { answer: pulumiCloudAt(url) });
  assert.deepEqual(
    lines.filter((line) => line.includes("How does Pulumi Cloud deny?")),
    [
      "  How does Pulumi Cloud deny? HTTP 400 with error, such as: first",
      "  How does Pulumi Cloud deny? HTTP 403 with message, such as: second",
    ],
  );
});

const tokenOfOtherCluster = () =>
  simulation.otherIssuer.token(
    { namespace: "ci", serviceAccount: "deployer" },
    { audience: ["urn:pulumi:org:acme"], expiresIn: 600 },
  );
for (const [what, run, message] of [
  [
    "if the stack is not deployed",
    { answer: (stdout, { args }) => (args[1] === "output" ? "{}" : stdout) },
    'Stack "prod" is not deployed. To deploy it: pulumi up --stack prod',
  ],
  [
    "if the kubeconfig points to a different cluster",
    { answer: (stdout, { args }) => (args[1] === "token" ? tokenOfOtherCluster() : stdout) },
    "points to a different cluster: its issuer is https://",
  ],
  [
    "if the setting of the URL was changed since the last update",
    {
      answer: (stdout, { args }) =>
        args[0] === "config" ? stdout.replace(simulation.pulumiCloud.url, "https://example.com") : stdout,
    },
    "instead of https://example.com, which pulumiApiUrl has been set to since then. No token was sent. To apply it:",
  ],
  [
    "if the issuers cannot be read, naming the right",
    {
      answer: (stdout, { args }) =>
        args[1]?.endsWith("/oidc/issuers") ? apiError("http_4xx", 403, "server returned HTTP 403") : stdout,
    },
    "server returned HTTP 403 No token was sent. This needs the right oidc_issuers:read in organization acme, which the role Admin contains, and a login.",
  ],
  [
    "if the policies cannot be read, naming the right",
    {
      answer: (stdout, { args }) =>
        args[1]?.includes("/auth/policies/") ? apiError("http_4xx", 403, "server returned HTTP 403") : stdout,
    },
    "server returned HTTP 403 No token was sent. This needs the right auth_policies:read in organization acme, which the role Admin contains, and a login.",
  ],
  [
    "if the CLI is not signed in to the Pulumi Cloud of the stack",
    {
      answer: (stdout, { args }) =>
        args[0] === "api" ? apiError("not_logged_in", 0, "not logged in to Pulumi Cloud") : stdout,
    },
    "Failed to run pulumi api /api/orgs/acme/oidc/issuers: not logged in to Pulumi Cloud No token was sent. ",
  ],
  [
    "if the CLI cannot call the API",
    {
      answer: (stdout, { args }) =>
        args[0] === "api" ? apiError("no_match", 0, "no operation matches") : stdout,
    },
    "no operation matches",
  ],
  [
    "if the issuer was registered again by hand",
    {
      answer: (stdout, { args }) =>
        args[1]?.endsWith("/oidc/issuers") ? stdout.replace(/"id":"[^"]+"/, '"id":"another"') : stdout,
    },
    "under the ID another, and the stack has",
  ],
  [
    "if the AWS STS endpoint has no TLS",
    { environment: { AWS_ENDPOINT_URL_STS: "http://127.0.0.1:9" } },
    "AWS_ENDPOINT_URL_STS is http://127.0.0.1:9. Set it to an https URL",
  ],
  [
    "if the region would be another host",
    {
      answer: (stdout, { args }) =>
        args[0] === "config" ? stdout.replace('"us-west-2"', '"x.example.com/"') : stdout,
    },
    'The region is "x.example.com/", which is not the name of an AWS region.',
  ],
  [
    "if the stack's output names a ConfigMap that kubectl would take for an option",
    {
      answer: (stdout, { args }) =>
        args[1] === "output"
          ? stdout.replaceAll('"deployer-pulumi-token-exchange"', '"--server=http://127.0.0.1:9"')
          : stdout,
    },
    'contain "--server=http://127.0.0.1:9", which is not a name in Kubernetes',
  ],
  ...["ci/--as=admin", "ci", "ci/a/b", "../ci", "CI/deployer"].map((id): [string, LiveRun, string] => [
    `if the stack's output names the service account ${id}`,
    {
      answer: (stdout, { args }) =>
        args[1] === "output" ? stdout.replaceAll('"ci/deployer"', JSON.stringify(id)) : stdout,
    },
    `contain "${id}", which is not a name in Kubernetes`,
  ]),
  [
    "if the state has an organization that is a path",
    {
      answer: (stdout, { args }) =>
        args[1] === "export" ? stdout.replaceAll(/"acme\/(?=[\w-]+")/g, '"acme/../') : stdout,
    },
    "has an invalid ID of the OIDC issuer",
  ],
  ...Object.entries({
    "sts.amazonaws.com": "which AWS accepts",
    "pods.eks.amazonaws.com": "which AWS accepts",
    "https://kubernetes.default.svc": "which the cluster's API server accepts",
    ISSUER: "which the cluster's API server accepts",
    "*": "which is not valid",
  }).map(([audience, message]): [string, LiveRun, string] => [
    `if the stack's output has the audience ${audience}`,
    {
      answer: (stdout, { args }) => {
        const aud = audience === "ISSUER" ? simulation.issuer.url : audience;
        return args[1] === "output"
          ? stdout.replaceAll(/"audience": ?"[^"]+"/g, `"audience":"${aud}"`)
          : stdout;
      },
    },
    message,
  ]),
  ...["file:///etc/passwd", "https://example.com/", "arn:aws:iam::123456789012:user/me"].map(
    (arn): [string, LiveRun, string] => [
      `if the stack's output has the role ${arn}`,
      {
        answer: (stdout, { args }) =>
          args[1] === "output"
            ? stdout.replaceAll(/"roleArn": ?"[^"]+"/g, `"roleArn":${JSON.stringify(arn)}`)
            : stdout,
      },
      `contain "${arn}", which is not the ARN of an IAM role`,
    ],
  ),
] satisfies [string, LiveRun, string][]) {
  test(`stops before any token is sent ${what}`, async () => {
    const before = exchanges();
    const { exitCode, errors, sentToSts } = await checkLive(stack, run);
    assert.ok(errors.includes(message), errors);
    assert.deepEqual([exitCode, exchanges() - before, sentToSts], [2, 0, []]);
  });
}

test("sends no token to a service whose certificate cannot be verified, whatever the environment says", async (t) => {
  const authority = await createCertificateAuthority();
  const endpoint = await startEndpoint(respond(200, {}), await authority.issue({ hosts: ["127.0.0.1"] }));
  t.after(endpoint.close);
  const { exitCode, errors } = await checkLive(stack, {
    answer: pulumiCloudAt(endpoint.url),
    environment: { NODE_TLS_REJECT_UNAUTHORIZED: "0" },
  });
  assert.match(
    errors,
    /^Failed to ask Pulumi Cloud at .*: UNABLE_TO_VERIFY_LEAF_SIGNATURE\. The check is incomplete/,
  );
  assert.deepEqual([exitCode, endpoint.requests], [2, []]);
});

/** Makes another Pulumi Cloud that of the stack. */
function pulumiCloudAt(url: string): LiveRun["answer"] {
  return (stdout) => stdout.replaceAll(simulation.pulumiCloud.url, url);
}

for (const [what, answer, reason] of [
  ["hangs", hang(), "no answer within 10 s"],
  ["redirects", "redirect", "unexpected redirect"],
  ["is not reachable", undefined, "ECONNREFUSED"],
  ["returns HTTP 503", respond(503, { message: "Service Unavailable" }), "HTTP 503"],
  ["returns a page", respond(200, "<html></html>"), "HTTP 200"],
] satisfies [string, Answer | "redirect" | undefined, string][]) {
  test(`counts it neither as allowed nor as denied if Pulumi Cloud ${what}, and asks once`, async (t) => {
    const other = await startEndpoint(respond(200, {}));
    t.after(other.close);
    const redirect = respond(307, "", { Location: other.url });
    const certificate = await (await openCertificateAuthority()).issue({ hosts: ["127.0.0.1"] });
    const { url, requests, close } = await startEndpoint(
      answer === "redirect" ? redirect : (answer ?? []),
      certificate,
    );
    if (answer) t.after(close);
    else await close();
    if (what === "hangs") hurry(t);
    const { exitCode, errors } = await checkLive(stack, { answer: pulumiCloudAt(url) });
    assert.ok(errors.startsWith(`Failed to ask Pulumi Cloud at ${url}: ${reason}`), errors);
    assert.deepEqual([exitCode, requests.length, other.connections()], [2, answer ? 1 : 0, 0]);
  });
}

/** Makes each time limit a fiftieth of itself. */
function hurry(t: TestContext): void {
  const { timeout } = AbortSignal;
  t.mock.method(AbortSignal, "timeout", (milliseconds: number) =>
    timeout.call(AbortSignal, milliseconds / 50),
  );
}

// What the AWS CLI prints, versions 1 and 2: awsSts.engine.test.ts.
for (const [what, printed, reason] of [
  [
    "hangs",
    'error:\nRead timeout on endpoint URL: "https://sts.us-west-2.amazonaws.com/"',
    'Read timeout on endpoint URL: "https://sts.us-west-2.amazonaws.com/"',
  ],
  [
    "is not reachable",
    'error:\naws: [ERROR]: Could not connect to the endpoint URL: "https://sts.us-west-2.amazonaws.com/"',
    "Could not connect to the endpoint URL",
  ],
  ["returns HTTP 503", stsError("503", "Service Unavailable"), "503: Service Unavailable"],
  ["returns a page", "None", "the answer contains no session of the role"],
  [
    "limits the rate",
    stsError("Throttling", "Rate exceeded").replace(" operation:", " operation (reached max retries: 0):"),
    "Throttling: Rate exceeded",
  ],
  [
    "cannot read the keys",
    stsError("InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider"),
    "InvalidIdentityToken: Couldn't retrieve verification key",
  ],
] satisfies [string, string, string][]) {
  test(`counts it neither as allowed nor as denied if AWS STS ${what}, and asks once`, async () => {
    const { exitCode, errors, sentToSts } = await checkLive(stack, { answer: stsPrints(printed) });
    assert.ok(errors.startsWith(`Failed to ask AWS STS in us-west-2: ${reason}`), errors);
    assert.match(errors, /The check is incomplete; run it again\.$/);
    assert.deepEqual([exitCode, sentToSts.length], [2, 1]);
  });
}

/** Changes what the AWS CLI prints of AWS STS. */
function stsPrints(printed: string): LiveRun["answer"] {
  return (stdout, { args }) => (args[0] === "sts" ? printed : stdout);
}

test("reads a denial of AWS STS as version 2 of the AWS CLI prints it, and shows its control characters", async () => {
  const denial = stsError("AccessDenied", "Not authorized \u001b[2J").replace(
    "error:\nAn error",
    "error:\naws: [ERROR]: An error",
  );
  const { exitCode, stdout, errors } = await checkLive(stack, { answer: stsPrints(denial), verbose: true });
  assert.equal(errors, "");
  assert.match(
    stdout.replaceAll(/\s+/g, " "),
    /itself: denied by IAM role \(AccessDenied: Not authorized \\u\{1b\}\[2J\)\. Compare the trust policy/,
  );
  assert.equal(exitCode, 1);
});

test("counts an ID token that AWS STS rejects as denied", async () => {
  for (const code of ["IDPRejectedClaim", "InvalidIdentityToken"]) {
    const answer = stsPrints(stsError(code, "No"));
    const { exitCode, errors, stdout } = await checkLive(stack, { answer, verbose: true });
    assert.equal(errors, "");
    assert.ok(stdout.includes(`denied by IAM role (${code}: No)`), stdout);
    assert.equal(exitCode, 1);
  }
});

test("shows nothing of an answer that the AWS CLI cannot read, which can contain credentials", async () => {
  const unreadable = `error:\nUnable to parse response (unclosed token), invalid XML received.\nb'<SecretAccessKey>${SECRET_ACCESS_KEY}'`;
  const { exitCode, stdout, errors } = await checkLive(stack, { answer: stsPrints(unreadable) });
  assert.match(errors, /: Unable to parse response \(unclosed token\), invalid XML received\.\. The check/);
  assert.ok(!`${stdout}${errors}`.includes(SECRET_ACCESS_KEY));
  assert.equal(exitCode, 2);
});

test("requests what the stack's state says, and exits 1 if a ConfigMap in the cluster differs from it", async () => {
  for (const [what, change, finding] of [
    [
      "an organization",
      { organization: "mallory" },
      'organization was changed by hand. Stack: "acme" Cluster: "mallory"',
    ],
    ["a scope", { tokenScope: "user:mallory" }, "tokenScope was changed by hand."],
    ["a URL", { apiUrl: "https://example.com" }, 'Cluster: "https://example.com"'],
    ["the script", { "exchange-token.sh": "curl example.com" }, "exchange-token.sh was changed by hand."],
    ["a new key", { extra: "\u202e" }, 'extra was added by hand. Stack: none Cluster: "\\u{202e}"'],
    [
      "a missing key",
      { tokenType: undefined },
      'tokenType was removed by hand. Stack: "personal" Cluster: none',
    ],
  ] as const) {
    const answer: LiveRun["answer"] = (stdout, { args }) => {
      if (args[1] !== "configmap") return stdout;
      return JSON.stringify({ data: { ...JSON.parse(stdout).data, ...change } });
    };
    const { exitCode, stdout, errors } = await checkLive(stack, { answer });
    const text = stdout.replaceAll(/\s+/g, " ");
    assert.equal(errors, "");
    assert.equal(exitCode, 1, what);
    assert.ok(text.includes(`In the ConfigMap of ci/deployer, `), text);
    assert.ok(text.includes(finding), text);
    assert.ok(!text.includes("curl example.com"), "the script, which is longer than what is shown");
    assert.match(text, /(\d+) of \1 checks passed/, what);
  }
});

test("exits 1 if binary data was added to a ConfigMap by hand", async () => {
  const { exitCode, stdout } = await checkLive(stack, {
    answer: (printed, { args }) =>
      args[1] === "configmap"
        ? JSON.stringify({ ...JSON.parse(printed), binaryData: { token: "YQ==" } })
        : printed,
  });
  assert.match(stdout, /^ {2}In the ConfigMap of ci\/deployer, token was added by hand\.$/m);
  assert.equal(exitCode, 1);
});

test("ends an endless answer of Pulumi Cloud at 64 KB", async (t) => {
  const certificate = await (await openCertificateAuthority()).issue({ hosts: ["127.0.0.1"] });
  let sentBytes = 0;
  const endless = createServer(certificate, (_request, response) => {
    const chunk = "a".repeat(16_384);
    const timer = setInterval(() => {
      sentBytes += chunk.length;
      response.write(chunk);
    }, 1);
    response.on("close", () => clearInterval(timer));
  });
  const port = await listen(endless);
  t.after(() => endless.close().closeAllConnections());

  const { exitCode, errors } = await checkLive(stack, { answer: pulumiCloudAt(`https://127.0.0.1:${port}`) });
  assert.equal(exitCode, 2);
  assert.match(errors, /HTTP 200: the answer is longer than 64 KB\. The check is incomplete/);
  assert.ok(sentBytes < 8e6, String(sentBytes));
});

test("shows at most 200 characters of an answer, too few to put a token together that was cut into pieces", () => {
  const pieces = Array.from({ length: 40 }, (_, index) => `${index}`.padEnd(38, "k")).join(" ");
  assert.equal(shown(pieces).length, 200);
  assert.equal(shown("a\nb"), "a b");
  assert.equal(shown("\u202e".repeat(100)).length, 200);
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  test(`leaves no file behind and exits 130 after ${signal}`, async () => {
    const answer: LiveRun["answer"] = (stdout, { args }, interrupt) => {
      if (args[1] === "token") interrupt();
      return stdout;
    };
    const { exitCode, files, left } = await startLive(stack, { answer, signal });
    assert.match(files, /^kubeconfig$/m);
    assert.deepEqual([exitCode, left], [130, []]);
  });
}

test("leaves no file behind when its reader stops reading", async () => {
  const { errors, left } = await startLive(stack, { stopsReading: true });
  assert.deepEqual([errors, left], ["", []]);
});

test("shows no token in its output, in arguments, in environments, or in files", async () => {
  const before = exchanges();
  const run = await startLive(stack, { accounts: 2, verbose: true });
  assert.equal(run.exitCode, 0, run.errors);
  // The answer contained the token, and the files the kubeconfig.
  assert.match(run.stdout.replaceAll(/\s+/g, " "), /InvalidIdentityToken: Not authorized: \[redacted\]/);
  assert.match(run.files, /^kubeconfig$/m);
  assert.deepEqual([exchanges() - before, run.sentToSts.length, run.left], [9, 5, []]);
  const tokens = run.sentToSts.flatMap((token) => token.split("."));
  const calls = run.calls.map(({ input, ...call }) => call);
  const seen = [run.stdout, run.errors, run.files, JSON.stringify(calls)].join("\n");
  for (const secret of [...run.tokens, ...tokens, SECRET_ACCESS_KEY]) assert.ok(!seen.includes(secret));
  assert.doesNotMatch(seen, /pul-[0-9a-f]{10}|eyJ[\w-]+/);
});

test("redacts what could be a token in the error of a program", async () => {
  const token = `pul-${"0123456789".repeat(4)}`;
  const { exitCode, errors } = await checkLive(stack, {
    answer: (stdout, { tool }) => (tool === "kubectl" ? `error:\nUnauthorized: ${token}` : stdout),
  });
  assert.match(errors, /Unauthorized: \[redacted\]/);
  assert.ok(!errors.includes(token));
  assert.equal(exitCode, 2);
});

test("prints an error on standard error and exits 2, such as the program that is missing and where to get it", async () => {
  const { exitCode, errors, stdout, tokens } = await startLive(stack, { tools: ["aws", "pulumi"] });
  const message = "kubectl is not on PATH. To install it: https://kubernetes.io/docs/tasks/tools/";
  assert.deepEqual([exitCode, errors, tokens], [2, message, []]);
  assert.ok(!stdout.includes(message));
});

test("ends a program after a minute, and names it without its options", async (t) => {
  const directory = temporaryDirectory(t);
  const program = `#!/bin/sh\nPATH='${process.env.PATH}'\nexec sleep 60\n`;
  await writeFile(join(directory, "kubectl"), program, { mode: 0o755 });
  t.after(setVariables({ PATH: directory }));
  hurry(t);
  const run = toolRunner(new AbortController().signal);
  const startedAt = Date.now();
  await assert.rejects(run("kubectl", ["get", "configmap", "--kubeconfig=/tmp/x", "--", "settings"]), {
    message: "Failed to run kubectl get configmap settings: no answer within 60 s",
  });
  assert.ok(Date.now() - startedAt < 20_000);
});

test("quotes a word in a command for the shell, so that a name cannot run another command", () => {
  for (const word of ["prod", "a b", "it's", "'; id '", "$(id)", "-", ""]) {
    const { stdout } = spawnSync("bash", ["-c", `printf %s ${shellQuoted(word)}`], { encoding: "utf8" });
    assert.equal(stdout, word);
  }
});

test("redacts access tokens, and shows characters that a terminal obeys", () => {
  const role = `pulumi-oidc-${"r".repeat(52)}`;
  assert.equal(redact(`a pul-${"0123456789".repeat(4)} b`), "a [redacted] b");
  assert.equal(redact(`role ${role}, ${"k".repeat(65)}`), `role ${role}, [redacted]`);
  assert.equal(redact("one\ntwo \u001b[2J\u202e\u00a0"), "one\ntwo \\u{1b}[2J\\u{202e}\\u{a0}");
});

/** Returns how many ID tokens Pulumi Cloud has received. */
function exchanges(): number {
  return simulation.pulumiCloud.exchanges.length;
}
