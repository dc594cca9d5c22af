// The policy pack on Pulumi's engine: with this project, and with a program that another team wrote by hand. package.engine.test.ts has
// programs that import the component.

import assert from "node:assert/strict";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { failed, succeeded } from "../environment/engineOutcome";
import { emptyStack, type Stack, stackOfProgram } from "../environment/engineStack";
import { missingCli } from "../environment/pulumiCli";
import { ROOT, read } from "../support/project";
import { PACK, packOf, violationsIn } from "./pack";

const DEPLOYER = { namespace: "ci", name: "deployer", tokenType: "team", teamName: "a", rolePolicyArns: [] };
const DRIFT = { namespace: "ops", name: "drift", tokenType: "team", teamName: "b", awsRole: "pod-identity" };
const EXISTING = { namespace: "web", name: "app", tokenType: "organization", createServiceAccount: false };
const CONFIG_MAP = "access.ci.deployer.pulumi-token-exchange";

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

const AUDIENCE =
  'one-service-account issuer: The aud of default/app is missing instead of one that is not AWS\'. To allow it, change requireAudience of "one-service-account".';
const TRUST = `trust role: Its trust policy requires the sub [] instead of "system:serviceaccount:NAMESPACE:NAME", by StringEquals of ${ISSUER}:sub. To allow it, change allowed of "trust".`;

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

    await t.test("when roles are replaced, unless any service account can assume one", async () => {
      await stack.replaceRoles();
      await quiet();
      const file = join(stack.directory, "iam.ts");
      const program = await readFile(file, "utf8");
      await writeFile(file, program.replace(/\[`\$\{issuer\}:sub`\]: .*/, ""));
      const broken = await stack.pulumi("preview", ...pack);
      failed(broken);
      assert.match(violationsIn(broken).join("\n"), /^mandatory trust access\.ci\.deployer: .*$/);
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

  test("stops Pulumi's guide, which requires no audience, in the preview and before the issuer exists", async (t) => {
    const { pulumi, simulation } = await handWritten(t, STATEMENT);
    for (const command of [["preview"], ["up", "--yes"]]) {
      const outcome = await pulumi(...command, ...PACK);
      failed(outcome);
      assert.deepEqual(violationsIn(outcome).sort(), [
        `advisory trust-patterns role: Its trust policy requires the aud [] instead of "sts.amazonaws.com".`,
        `mandatory ${AUDIENCE}`,
      ]);
    }
    assert.deepEqual(simulation.pulumiCloud.list(), []);
  });

  for (const [first, stopped] of Object.entries({ role: TRUST, issuer: AUDIENCE })) {
    test(`stops an update without a preview before the ${first} exists, if that is the first`, async (t) => {
      const { pulumi, simulation } = await handWritten(t, { ...STATEMENT, Condition: {} }, first);
      const outcome = await pulumi("up", "--yes", "--skip-preview", ...PACK);
      failed(outcome);
      assert.deepEqual(violationsIn(outcome), [`mandatory ${stopped}`]);
      assert.deepEqual(simulation.pulumiCloud.list(), []);
      const { deployment } = JSON.parse(succeeded(await pulumi("stack", "export")).stdout);
      assert.doesNotMatch(JSON.stringify(deployment), /iam\/role:Role/);
    });
  }

  for (const [what, configuration, message] of [
    [
      "rule or setting",
      { "one-service": "advisory", limits: { maxExpirationsSeconds: 1 } },
      /: limits\.maxExpirationsSeconds, one-service\. Known: /,
    ],
    [
      "owner of a token",
      { limits: { forbidden: ["teams:a"] } },
      /limits: forbidden\.0: Does not match pattern/,
    ],
  ] as const) {
    test(`rejects a configuration with a misspelled ${what}`, async (t) => {
      const { pulumi, directory } = await handWritten(t);
      const file = join(directory, "policy.json");
      await writeFile(file, JSON.stringify(configuration));
      failed(await pulumi("preview", ...PACK, "--policy-pack-config", file), message);
    });
  }

  test("is complete in its directory, as `npm pack` packs it, with its packages", async (t) => {
    const { pulumi, directory, cli } = await handWritten(t);
    const elsewhere = join(directory, "elsewhere");
    await mkdir(elsewhere);
    succeeded(await cli.run(elsewhere, "npm", "pack", "--silent", join(ROOT, "policy")));
    succeeded(await cli.run(elsewhere, "bash", "-c", "tar --extract --file ./*.tgz"));
    // Only its own dependencies.
    for (const name of Object.keys(JSON.parse(read("policy/package.json")).dependencies)) {
      const link = join(elsewhere, "package", "node_modules", name);
      await mkdir(dirname(link), { recursive: true });
      await symlink(join(ROOT, "node_modules", name), link);
    }
    const outcome = await pulumi("preview", "--policy-pack", join(elsewhere, "package", "start.js"));
    assert.equal(violationsIn(outcome).length, 2);
  });
});

/**
 * Creates the stack of a program as in https://www.pulumi.com/docs/administration/access-identity/oidc-client/kubernetes-eks/
 *
 * @param first which of the resources the other one waits for.
 */
async function handWritten(t: TestContext, statement: object = STATEMENT, first = "role"): Promise<Stack> {
  const assumeRolePolicy = JSON.stringify({ Version: "2012-10-17", Statement: [statement] });
  const resources = Object.entries({
    role: ["aws:iam/role:Role", { name: "app", assumeRolePolicy }],
    issuer: ["pulumiservice:index:OidcIssuer", OIDC_ISSUER],
  }).sort(([name]) => (name === first ? -1 : 1));
  const program = `
    const pulumi = require("@pulumi/pulumi");
    let dependsOn = [];
    for (const [name, [type, inputs]] of ${JSON.stringify(resources)}) {
      dependsOn = [new pulumi.CustomResource(type, name, inputs, { dependsOn })];
    }`;
  const stack = await stackOfProgram(t, { "index.js": program, "package.json": "{}" });
  await symlink(join(ROOT, "node_modules"), join(stack.directory, "node_modules"));
  return stack;
}
