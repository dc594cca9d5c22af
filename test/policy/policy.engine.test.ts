// The policy pack on Pulumi's engine. package.engine.test.ts has programs in TypeScript and YAML that import the component, and
// whatExists.cluster.test.ts the objects of an API server.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { failed, succeeded } from "../environment/engineOutcome";
import { emptyStack, type Stack } from "../environment/engineStack";
import { missingCli } from "../environment/pulumiCli";
import { packOf, violationsIn } from "./pack";

const READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess";
const DEPLOYER = {
  namespace: "ci",
  name: "deployer",
  tokenType: "team",
  teamName: "a",
  rolePolicyArns: [READ_ONLY],
  injectToken: true,
};
const DRIFT = { namespace: "ops", name: "drift", tokenType: "team", teamName: "b", awsRole: "pod-identity" };
const EXISTING = { namespace: "web", name: "app", tokenType: "organization", createServiceAccount: false };
const ENTRIES = [DEPLOYER, DRIFT, EXISTING];

describe("the policy pack", { skip: missingCli }, () => {
  // The parts of the test depend on those before them.
  test("reports nothing of a stack that does what its settings say", async (t) => {
    const stack = await emptyStack(t, { serviceAccounts: ENTRIES }, { serviceAccounts: ["web/app"] });
    const pack = packOf(stack.directory);
    const preview = (...options: string[]) => stack.pulumi("preview", ...pack, ...options);

    /** Previews the stack with these settings, and returns the output. */
    async function quiet(settings: Record<string, unknown>, ...options: string[]): Promise<string> {
      for (const [name, value] of Object.entries(settings)) await stack.set(name, value);
      const outcome = succeeded(await preview(...options));
      assert.deepEqual(violationsIn(outcome), []);
      return outcome.stdout;
    }

    await t.test("in the first preview, and in the update", async () => {
      await quiet({});
      assert.deepEqual(violationsIn(succeeded(await stack.up(...pack))), []);
      await quiet({}, "--expect-no-changes");
    });

    await t.test("in its state, without the program", async () => {
      const { screen } = succeeded(await stack.pulumi("policy", "analyze", ...pack));
      assert.deepEqual(violationsIn({ exitCode: 0, stdout: screen, screen }), []);
    });

    await t.test("when entries change, are new, and leave the list: grants shows which", async () => {
      const admin = { ...EXISTING, organizationRoleId: "role-1" };
      const changed = [{ ...DRIFT, name: "more" }, { ...DEPLOYER, teamName: "b" }, admin];
      const output = await quiet({ serviceAccounts: changed });
      const lines = output.match(/(?<=^ {6}).*\/.*: ".*(?=$)/gm)?.map((line) => line.replaceAll(/ +:/g, ":"));
      assert.deepEqual(lines, [
        `~ ci/deployer: "team:a, 3600 s, role by irsa (${READ_ONLY}), injected into its pods" => "team:b, 3600 s, role by irsa (${READ_ONLY}), injected into its pods"`,
        '- ops/drift: "team:b, 3600 s, role by pod-identity"',
        '+ ops/more: "team:b, 3600 s, role by pod-identity"',
        '~ web/app: "organization, 3600 s" => "organization (role role-1), 3600 s"',
      ]);
    });

    // What uses a role knows its name, or the new role's not yet.
    await t.test("when roles are changed or replaced", async () => {
      await quiet({ serviceAccounts: ENTRIES, permissionsBoundaryArn: READ_ONLY });
      await quiet({ permissionsBoundaryArn: "", rolePath: "/pulumi/" });
      await quiet({ rolePath: "/" });
    });
  });

  test("reports nothing of a stack that creates its cluster and a namespace", async (t) => {
    const created = { createCluster: true, createNamespaces: ["ci", "ops"] };
    const entries = [DEPLOYER, { ...DRIFT, runJob: false }, { ...EXISTING, namespace: "ops", runJob: false }];
    const { pulumi, directory } = await emptyStack(t, { serviceAccounts: entries, ...created });
    const preview = succeeded(await pulumi("preview", ...packOf(directory)));
    assert.deepEqual(violationsIn(preview), []);
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
      assert.match(screen, /✅ eks-pulumi-oidc@/);
      assert.doesNotMatch(screen, /\[(mandatory|advisory)\]/);
    }
    assert.equal(simulation.pulumiCloud.list().length, 1);
  });

  test("stops an update before the issuer exists", async (t) => {
    const stack = await emptyStack(t, { serviceAccounts: [DEPLOYER] });
    const broken = await replaceIn(
      stack,
      "oidcIssuer.ts",
      `.namespace': account.namespace`,
      `.namespace': "*"`,
    );
    const expected = [
      "mandatory allow-policies access.oidc-issuer: ci/deployer has 0 allow policies instead of 1.",
      'mandatory allow-policies access.oidc-issuer: An allow policy is for no service account of the settings: {"decision":"allow","rules":{"\\"kubernetes.io\\".namespace":"*",',
    ];
    const beginnings = (violations: string[]) =>
      violations.map((it, index) => it.slice(0, expected[index]?.length));
    for (const command of [["preview"], ["up", "--yes", "--skip-preview"]]) {
      const outcome = await stack.pulumi(...command, ...broken);
      assert.notEqual(outcome.exitCode, 0, outcome.screen);
      assert.deepEqual(beginnings(violationsIn(outcome)), expected);
    }
    assert.deepEqual(stack.simulation.pulumiCloud.list(), []);
  });

  // What this rule compares is known only when it has been created.
  test("fails an update that uses another role", async (t) => {
    const stack = await emptyStack(t, { serviceAccounts: [DEPLOYER] });
    const broken = await replaceIn(
      stack,
      "serviceAccount.ts",
      `args.irsaRoleArn }`,
      `"arn:aws:iam::1:role/other" }`,
    );
    const outcome = await stack.up(...broken);
    assert.notEqual(outcome.exitCode, 0, outcome.screen);
    assert.deepEqual(violationsIn(outcome), [
      'mandatory own-roles access.ci.deployer: It does not use the role of ci/deployer, but "arn:aws:iam::1:role/other".',
    ]);
  });

  test("compares nothing of a component of another commit, and says so once", async (t) => {
    const stack = await emptyStack(t, { serviceAccounts: ENTRIES }, { serviceAccounts: ["web/app"] });
    const pack = packOf(stack.directory);
    succeeded(await stack.up(...pack));
    await replaceIn(stack, "scripts/exchange-token.sh", "set +o", "# Another version.\nset +o");
    const outcome = await stack.pulumi("policy", "analyze", ...pack);
    failed(outcome, /mandatory policy violations were found/);
    const [violation = "", ...others] = violationsIn(outcome);
    assert.match(violation, /^mandatory same-version access: It is of another commit than this pack: /);
    assert.deepEqual(others, []);
  });
});

/** Breaks the program of a stack, and returns the options that run its pack. */
async function replaceIn(stack: Stack, name: string, text: string, broken: string): Promise<string[]> {
  const file = join(stack.directory, name);
  const content = await readFile(file, "utf8");
  assert.ok(content.includes(text), text);
  await writeFile(
    file,
    content.replace(text, () => broken),
  );
  return packOf(stack.directory);
}
