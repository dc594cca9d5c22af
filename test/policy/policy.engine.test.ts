// The policy pack on Pulumi's engine: with this project, and with a program that another team wrote by hand. package.engine.test.ts has
// programs that import the component.

import assert from "node:assert/strict";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { failed, succeeded } from "../environment/engineOutcome";
import { emptyStack, type Stack, stackOfProgram } from "../environment/engineStack";
import { missingCli } from "../environment/pulumiCli";
import { ROOT } from "../support/project";
import { PACK, packOf, violationsIn } from "./pack";

const DEPLOYER = { namespace: "ci", name: "deployer", tokenType: "team", teamName: "a", rolePolicyArns: [] };
const DRIFT = { namespace: "ops", name: "drift", tokenType: "team", teamName: "b", awsRole: "pod-identity" };
const EXISTING = { namespace: "web", name: "app", tokenType: "organization", createServiceAccount: false };
const CONFIG_MAP = "access.ci.deployer.pulumi-token-exchange";

describe("the policy pack", { skip: missingCli }, () => {
  // The parts of the test depend on those before them.
  test("reports nothing of a stack of this project", async (t) => {
    const entries = [{ ...DEPLOYER, injectToken: true }, DRIFT, EXISTING];
    const stack = await emptyStack(t, { serviceAccounts: entries }, { serviceAccounts: ["web/app"] });
    const pack = packOf(stack.directory);
    const quiet = async (...options: string[]) => {
      assert.deepEqual(violationsIn(succeeded(await stack.pulumi("preview", ...pack, ...options))), []);
    };

    await t.test("in the first preview, also with --target, and in the update", async () => {
      await quiet();
      // As examples/import/issuer.sh: the pack gets the others without inputs.
      const targets = [
        "**pulumi:providers:*::*",
        "**:Stash::*",
        "**:PulumiCloudAccess::*",
        "**:WorkloadIdentity::*",
      ];
      await quiet(...targets.map((it) => `--target=${it}`));
      assert.deepEqual(violationsIn(succeeded(await stack.up(...pack))), []);
      await quiet("--expect-no-changes");
    });

    await t.test("in its state, without the program", async () => {
      const { screen } = succeeded(await stack.pulumi("policy", "analyze", ...pack));
      assert.deepEqual(violationsIn({ exitCode: 0, stdout: screen, screen }), []);
    });

    // What uses a role knows its ARN, or the new role's not yet.
    await t.test("when roles are replaced, unless one can be assumed from another namespace", async () => {
      await stack.set("rolePath", "/pulumi/");
      await quiet();
      const file = join(stack.directory, "iam.ts");
      const program = await readFile(file, "utf8");
      await writeFile(file, program.replace('"aws:RequestTag/kubernetes-namespace": namespace,', ""));
      const broken = await stack.pulumi("preview", ...pack);
      failed(broken);
      assert.match(violationsIn(broken).join("\n"), /^mandatory pod-identity access\.ops\.drift: .*$/);
      await writeFile(file, program);
      await stack.set("rolePath", "/");
    });

    await t.test("but what was added by hand, by the command of docs/policy.md", async () => {
      const configMaps = stack.simulation.resources["kubernetes:core/v1:ConfigMap"] ?? assert.fail();
      const id = "ci/deployer-pulumi-token-exchange";
      const configMap = await configMaps.read(id);
      await configMaps.update(id, { ...configMap, data: { ...Object(configMap).data, more: "x" } });
      const drift = ["--policy-pack-config", join(stack.directory, "policy", "drift.json")];
      const outcome = await stack.pulumi("preview", "--refresh", "--expect-no-changes", ...pack, ...drift);
      failed(outcome);
      assert.deepEqual(violationsIn(outcome), [
        `mandatory beside-the-program ${CONFIG_MAP}: It also has the files ["more"].`,
      ]);
      assert.doesNotMatch(outcome.stdout, / (update|replace) \[diff/);
    });
  });

  test("stops a program by hand at what Pulumi's guides leave out, before the issuer exists", async (t) => {
    const { pulumi, simulation } = await handWritten(t);
    const outcome = await pulumi("up", "--yes", ...PACK);
    failed(outcome);
    // Whether the role or the issuer is registered first is not determined.
    const violations = violationsIn(outcome).map((it) =>
      it.replace("trust issuer: The role role", "trust role"),
    );
    assert.deepEqual(violations.sort(), [
      'mandatory one-service-account issuer: The aud of default/app is missing instead of one audience. To allow it, change requireAudience of "one-service-account".',
      `mandatory trust role: Its trust policy requires the sub ["system:serviceaccount:default:app"] and the aud [] instead of one service account and "sts.amazonaws.com", by StringEquals of ${ISSUER}:sub and :aud.`,
    ]);
    assert.deepEqual(simulation.pulumiCloud.list(), []);
  });

  test("rejects a configuration with a misspelled rule or setting", async (t) => {
    const { pulumi, directory } = await handWritten(t);
    const file = join(directory, "policy.json");
    await writeFile(file, JSON.stringify({ "one-issue": "advisory", limits: { maxExpirationsSeconds: 1 } }));
    const outcome = await pulumi("preview", ...PACK, "--policy-pack-config", file);
    failed(outcome, /one-issue: unknown guardrail/, /limits\.maxExpirationsSeconds: unknown setting/);
  });

  test("is complete in its directory, as `npm pack` packs it, with its packages", async (t) => {
    const { pulumi, directory, cli } = await handWritten(t);
    const elsewhere = join(directory, "elsewhere");
    await mkdir(elsewhere);
    succeeded(await cli.run(elsewhere, "npm", "pack", "--silent", join(ROOT, "policy")));
    succeeded(await cli.run(elsewhere, "bash", "-c", "tar --extract --file ./*.tgz"));
    await symlink(join(ROOT, "node_modules"), join(elsewhere, "package", "node_modules"));
    const outcome = await pulumi("preview", "--policy-pack", join(elsewhere, "package", "start.js"));
    assert.equal(violationsIn(outcome).length, 2);
  });
});

const ISSUER = "oidc.eks.us-west-2.amazonaws.com/id/A1";
const NAMES = { '"kubernetes.io".namespace': "default", '"kubernetes.io".serviceaccount.name': "app" };
const OIDC_ISSUER = {
  organization: "acme",
  name: "eks",
  url: `https://${ISSUER}`,
  maxExpirationSeconds: 3600,
  policies: [{ decision: "allow", tokenType: "personal", userLogin: "my-login", rules: NAMES }],
};
const STATEMENT = {
  Effect: "Allow",
  Principal: { Federated: `arn:aws:iam::123456789012:oidc-provider/${ISSUER}` },
  Action: "sts:AssumeRoleWithWebIdentity",
  Condition: { StringEquals: { [`${ISSUER}:sub`]: "system:serviceaccount:default:app" } },
};

/** As in https://www.pulumi.com/docs/administration/access-identity/oidc-client/kubernetes-eks/, which requires no audience. */
const BY_HAND = `
const pulumi = require("@pulumi/pulumi");
new pulumi.CustomResource("pulumiservice:index:OidcIssuer", "issuer", ${JSON.stringify(OIDC_ISSUER)});
const assumeRolePolicy = JSON.stringify(${JSON.stringify({ Version: "2012-10-17", Statement: [STATEMENT] })});
new pulumi.CustomResource("aws:iam/role:Role", "role", { name: "app", assumeRolePolicy });
`;

async function handWritten(t: TestContext): Promise<Stack> {
  const stack = await stackOfProgram(t, { "index.js": BY_HAND, "package.json": "{}" });
  await symlink(join(ROOT, "node_modules"), join(stack.directory, "node_modules"));
  return stack;
}
