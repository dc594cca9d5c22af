// The policy pack on Pulumi's engine: with this project, and with a program that another team wrote by hand. package.engine.test.ts has
// programs that import the component, and whatExists.cluster.test.ts the objects of an API server.

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

describe("the policy pack", { skip: missingCli }, () => {
  // The parts of the test depend on those before them.
  test("reports nothing of a stack of this project", async (t) => {
    const entries = [{ ...DEPLOYER, injectToken: true }, DRIFT, EXISTING];
    const stack = await emptyStack(t, { serviceAccounts: entries }, { serviceAccounts: ["web/app"] });
    const pack = packOf(stack.directory);
    const quiet = async (...options: string[]) => {
      assert.deepEqual(violationsIn(succeeded(await stack.pulumi("preview", ...pack, ...options))), []);
    };

    await t.test("in the first preview, and in the update", async () => {
      await quiet();
      assert.deepEqual(violationsIn(succeeded(await stack.up(...pack))), []);
      await quiet("--expect-no-changes");
    });

    await t.test("in its state, without the program", async () => {
      const { screen } = succeeded(await stack.pulumi("policy", "analyze", ...pack));
      assert.deepEqual(violationsIn({ exitCode: 0, stdout: screen, screen }), []);
    });

    // What uses a role knows its ARN, or the new role's not yet.
    await t.test("when roles are replaced", async () => {
      await stack.set("rolePath", "/pulumi/");
      await quiet();
    });
  });

  test("reports nothing of a stack that creates its cluster, about which the preview knows little", async (t) => {
    const entries = [DEPLOYER, { ...DRIFT, runJob: false }];
    const settings = { serviceAccounts: entries, createCluster: true, createNamespaces: ["ci", "ops"] };
    const { pulumi, directory } = await emptyStack(t, settings);
    assert.deepEqual(violationsIn(succeeded(await pulumi("preview", ...packOf(directory)))), []);
  });

  test("reports nothing of a new stack with --target, and of what is then imported", async (t) => {
    const stack = await emptyStack(t, { serviceAccounts: [DEPLOYER] }, { serviceAccounts: ["ci/deployer"] });
    const { simulation, cli, directory, up } = stack;
    const issuers = simulation.resources["pulumiservice:index:OidcIssuer"] ?? assert.fail();
    const registered = { organization: "acme", name: "by-hand", url: simulation.issuer.url };
    const policies = [{ decision: "allow", tokenType: "team", teamName: "a", rules: { sub: "system:*" } }];
    const { id } = await issuers.create("by-hand", { ...registered, policies });

    cli.environment.PULUMI_OPTION_POLICY_PACK = packOf(directory)[1];
    const script = join("examples", "import", "issuer.sh");
    const imported = succeeded(await cli.run(directory, "bash", script, "dev", id, "ci/deployer"));
    for (const { screen } of [imported, succeeded(await up())]) {
      assert.match(screen, /✅ pulumi-oidc-guardrails@/);
      assert.doesNotMatch(screen, /\[(mandatory|advisory)\]/);
    }
    assert.equal(simulation.pulumiCloud.list().length, 1);
  });

  test("stops an update before the issuer exists", async (t) => {
    const stack = await emptyStack(t, { serviceAccounts: [DEPLOYER] });
    await replaceIn(stack, "oidcIssuer.ts", "[NAMESPACE_RULE]: account.namespace", '[NAMESPACE_RULE]: "*"');
    const pack = packOf(stack.directory);
    for (const command of [["preview"], ["up", "--yes", "--skip-preview"]]) {
      const outcome = await stack.pulumi(...command, ...pack);
      failed(outcome);
      const [violation = "", ...others] = violationsIn(outcome);
      assert.match(
        violation,
        /^mandatory one-service-account access\.oidc-issuer: .*"\\"kubernetes\.io\\"\.namespace":"\*"/,
      );
      assert.deepEqual(others, []);
    }
    assert.deepEqual(stack.simulation.pulumiCloud.list(), []);
  });

  test("names what Pulumi's guide leaves out, in a program by hand", async (t) => {
    const { pulumi, directory, simulation } = await handWritten(t, GUIDE);
    const preview = await pulumi("preview", ...PACK);
    failed(preview);
    const url = "oidc.eks.us-west-2.amazonaws.com/id/A1";
    // Whether the role or the issuer is registered first is not determined.
    const violations = violationsIn(preview).map((it) =>
      it.replace("trust issuer: The role role", "trust role"),
    );
    assert.deepEqual(violations.sort(), [
      'mandatory one-service-account issuer: The aud of default/app is missing instead of one audience. To allow it, change requireAudience of "one-service-account".',
      `mandatory trust role: Its trust policy requires the sub ["system:serviceaccount:default:app"] and the aud [] instead of one service account and "sts.amazonaws.com", by StringEquals of ${url}:sub and :aud.`,
    ]);

    await t.test("and reports nothing once it is there, also in another repository", async () => {
      await writeFile(
        join(directory, "index.js"),
        programOf({ ...GUIDE, aud: "urn:pulumi:org:acme", roleAud: "sts.amazonaws.com" }),
      );
      assert.deepEqual(violationsIn(succeeded(await pulumi("up", "--yes", ...PACK))), []);
      assert.equal(simulation.pulumiCloud.list().length, 1);
    });
  });

  // What this rule compares is an output of the role.
  test("stops a role by EKS Pod Identity without tags at the end of the preview", async (t) => {
    const { pulumi, simulation } = await handWritten(t, {
      ...GUIDE,
      aud: "urn:pulumi:org:acme",
      isPodIdentity: true,
    });
    const outcome = await pulumi("up", "--yes", ...PACK);
    failed(outcome);
    assert.deepEqual(violationsIn(outcome), [
      "mandatory pod-identity association: The role of default/app requires {} instead of its cluster, namespace, and name.",
    ]);
    assert.deepEqual(simulation.existing().aws, []);
  });

  test("rejects a configuration with a misspelled rule or setting", async (t) => {
    const { pulumi, directory } = await handWritten(t, GUIDE);
    const file = join(directory, "policy.json");
    await writeFile(file, JSON.stringify({ "one-issue": "advisory", limits: { maxExpirationsSeconds: 1 } }));
    const outcome = await pulumi("preview", ...PACK, "--policy-pack-config", file);
    failed(outcome, /one-issue: unknown guardrail/, /limits\.maxExpirationsSeconds: unknown setting/);
  });

  test("is complete in its directory, as `npm pack` packs it, with its packages", async (t) => {
    const { pulumi, directory, cli } = await handWritten(t, GUIDE);
    const elsewhere = join(directory, "elsewhere");
    await mkdir(elsewhere);
    succeeded(await cli.run(elsewhere, "npm", "pack", "--silent", join(ROOT, "policy")));
    succeeded(await cli.run(elsewhere, "bash", "-c", "tar --extract --file ./*.tgz"));
    await symlink(join(ROOT, "node_modules"), join(elsewhere, "package", "node_modules"));
    const outcome = await pulumi("preview", "--policy-pack", join(elsewhere, "package", "start.js"));
    assert.equal(violationsIn(outcome).length, 2);
  });
});

/** Breaks the program of a stack. */
async function replaceIn(stack: Stack, name: string, text: string, broken: string): Promise<void> {
  const file = join(stack.directory, name);
  const content = await readFile(file, "utf8");
  assert.ok(content.includes(text), text);
  const changed = content.replace(text, () => broken);
  await writeFile(file, changed);
}

/** What a program by hand registers. */
interface ByHand {
  /** The rule on the audience of the allow policy. */
  aud?: string;
  /** The audience that the trust policy requires. */
  roleAud?: string;
  /** Whether the role is one by EKS Pod Identity, of which the trust policy requires nothing. */
  isPodIdentity?: boolean;
}

/** https://www.pulumi.com/docs/administration/access-identity/oidc-client/kubernetes-eks/ requires no audience. */
const GUIDE: ByHand = {};

async function handWritten(t: TestContext, byHand: ByHand): Promise<Stack> {
  const stack = await stackOfProgram(t, { "index.js": programOf(byHand), "package.json": "{}" });
  await symlink(join(ROOT, "node_modules"), join(stack.directory, "node_modules"));
  return stack;
}

function programOf({ aud, roleAud, isPodIdentity }: ByHand): string {
  const url = "oidc.eks.us-west-2.amazonaws.com/id/A1";
  const StringEquals = { [`${url}:sub`]: "system:serviceaccount:default:app", [`${url}:aud`]: roleAud };
  const Federated = `arn:aws:iam::123456789012:oidc-provider/${url}`;
  const irsa = {
    Principal: { Federated },
    Action: "sts:AssumeRoleWithWebIdentity",
    Condition: { StringEquals },
  };
  const pods = {
    Principal: { Service: "pods.eks.amazonaws.com" },
    Action: ["sts:AssumeRole", "sts:TagSession"],
  };
  const Statement = [{ Effect: "Allow", ...(isPodIdentity ? pods : irsa) }];
  const rules = { '"kubernetes.io".namespace': "default", '"kubernetes.io".serviceaccount.name': "app", aud };
  const policies = [{ decision: "allow", tokenType: "personal", userLogin: "my-login", rules }];
  const issuer = {
    organization: "acme",
    name: "eks",
    url: `https://${url}`,
    maxExpirationSeconds: 3600,
    policies,
  };
  const account = { clusterName: "my-cluster", namespace: "default", serviceAccount: "app" };
  return `
const pulumi = require("@pulumi/pulumi");
const create = (type, name, inputs) => new pulumi.CustomResource(type, name, { ...inputs, arn: undefined });
create("pulumiservice:index:OidcIssuer", "issuer", ${JSON.stringify(issuer)});
const assumeRolePolicy = JSON.stringify(${JSON.stringify({ Version: "2012-10-17", Statement })});
const role = create("aws:iam/role:Role", "role", { name: "app", assumeRolePolicy });
${isPodIdentity ? `create("aws:eks/podIdentityAssociation:PodIdentityAssociation", "association", { ...${JSON.stringify(account)}, roleArn: role.arn });` : ""}
`;
}
