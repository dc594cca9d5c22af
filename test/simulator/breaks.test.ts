// What `npm start` says about a program that is broken: the access check builds what it expects a second time, so that an error of
// the program is a finding. Each break is one change of a source file, in this process only.

import assert from "node:assert/strict";
import Module from "node:module";
import { join, relative } from "node:path";
import { type TestContext, test } from "node:test";
import { ROOT } from "../support/project";
import { simulate, stackFile } from "./simulate";

const ENTRIES = [
  {
    namespace: "team-a",
    name: "deployer",
    tokenType: "team",
    teamName: "a",
    audienceRule: true,
    awsRole: "irsa",
  },
  { namespace: "team-b", name: "drift", tokenType: "team", teamName: "b", awsRole: "pod-identity" },
  { namespace: "web", name: "secrets", tokenType: "organization" },
];
const STACKS = {
  prod: stackFile({ serviceAccounts: ENTRIES.map((entry) => ({ ...entry, runJob: false })) }),
};

/** Breaks a module of the program until the test ends. The pattern matches its source as tsx compiles it. */
function breakProgram(t: TestContext, file: string, pattern: RegExp, replacement: string): void {
  const isProgram = (path: string) => /^(settings\/)?[^./]+\.ts$/.test(relative(ROOT, path));
  const unbroken = Object.entries(require.cache).filter(([path]) => isProgram(path));
  const unload = () => {
    for (const path of Object.keys(require.cache).filter(isProgram)) delete require.cache[path];
  };
  const compiler = Module.prototype as unknown as { _compile(source: string, path: string): unknown };
  const { _compile: compile } = compiler;
  compiler._compile = function (source, path) {
    if (path !== join(ROOT, file)) return compile.call(this, source, path);
    const broken = source.replace(pattern, replacement);
    assert.notEqual(broken, source, `${pattern} is not in ${file}`);
    return compile.call(this, broken, path);
  };
  unload();
  t.after(() => {
    compiler._compile = compile;
    unload();
    for (const [path, loaded] of unbroken) require.cache[path] = loaded;
  });
}

test("finds nothing in a program that is not broken", async (t) => {
  const { exitCode, flow } = await simulate(t, STACKS);
  assert.equal(exitCode, 0, flow);
});

for (const [name, file, pattern, replacement, finding] of [
  [
    "an IRSA trust policy without aud",
    "iam.ts",
    /,\[`\${issuer}:aud`\]:"sts.amazonaws.com"/,
    "",
    /trust policy: [^ ]+:aud is none instead of "sts\.amazonaws\.com"/,
  ],
  [
    "an IRSA trust policy without sub",
    "iam.ts",
    /\[`\${issuer}:sub`\]:`[^`]+`,/,
    "",
    /trust policy: [^ ]+:sub is none instead of "system:serviceaccount:team-a:deployer"/,
  ],
  [
    "an IRSA trust policy with sts:*",
    "iam.ts",
    /"sts:AssumeRoleWithWebIdentity"/,
    '"sts:*"',
    /trust policy: [^ ]+\.Action is "sts:\*" instead of "sts:AssumeRoleWithWebIdentity"/,
  ],
  [
    "a Pod Identity trust policy without the cluster",
    "iam.ts",
    /"[^"]+eks-cluster-arn":\w+,/,
    "",
    /trust policy: [^ ]+eks-cluster-arn is none instead of "arn:aws:eks:/,
  ],
  [
    "a Pod Identity trust policy without the namespace",
    "iam.ts",
    /"[^"]+-namespace":\w+,/,
    "",
    /trust policy: [^ ]+kubernetes-namespace is none instead of "team-b"/,
  ],
  [
    "an allow policy without its namespace",
    "oidcIssuer.ts",
    /'"kubernetes.io".namespace':[^,]+,/,
    "",
    /web\/secrets .* Its allow policy is missing\. .* Allow policy of no service account is in the component/,
  ],
  [
    "an allow policy without its audience",
    "oidcIssuer.ts",
    /account\.audienceRule&&/,
    "false&&",
    /allow policy: rules\.aud is none instead of "urn:pulumi:org:acme"/,
  ],
  [
    "an organization token for an administrator",
    "settings/tokenTypes.ts",
    /organizationAdmin\?{/,
    "true?{",
    /allow policy: authorizedPermissions is \[ "admin" \] instead of none/,
  ],
  [
    "the team of the first entry for all",
    "pulumiCloudAccess.ts",
    /(access\.serviceAccounts)\.map\(account=>\({account,/,
    "$1.map(it=>({...it,teamName:'a'})).map(account=>({account,",
    /allow policy: teamName is "a" instead of "b"/,
  ],
] satisfies [string, string, RegExp, string, RegExp][]) {
  test(`finds ${name}`, async (t) => {
    breakProgram(t, file, pattern, replacement);
    const { exitCode, flow } = await simulate(t, STACKS);
    assert.match(flow, finding);
    assert.equal(exitCode, 1);
  });
}
