// The program on Pulumi's engine, with the simulation as its providers.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { changes, EXCHANGED, failed, newStatuses, succeeded } from "../environment/engineOutcome";
import { emptyStack } from "../environment/engineStack";
import { missingCli } from "../environment/pulumiCli";
import type { Simulation } from "../environment/simulation";
import { read } from "../support/project";

const ISSUER = "access.oidc-issuer";
const READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess";
/** The command of docs/copy.md that imports what exists. */
const [IMPORT = ""] = read("docs/copy.md").match(/(?<=^ *)bash examples\/import\/.*$/m) ?? [];

/** With these settings, a service account is denied: no pod has such a name. */
const DENY = { policyRules: { '"kubernetes.io".pod.name': "other-*" } };

const FOUR = [
  { namespace: "team-a", name: "deployer", tokenType: "personal", userLogin: "alice", awsRole: "irsa" },
  { namespace: "team-a", name: "drift", tokenType: "team", teamName: "platform", rolePolicyArns: [] },
  { namespace: "team-b", name: "secrets", tokenType: "organization" },
  { namespace: "runners", name: "runner", tokenType: "runner", runnerId: "pool-1", runnerName: "builders" },
];
const NAMESPACES = ["team-a", "team-b", "runners"];
/** In a namespace that exists already. */
const FIFTH = {
  namespace: "default",
  name: "pulumi-service-account",
  tokenType: "organization",
  awsRole: "irsa",
};

// The parts of a test depend on those before them.
describe("the program on Pulumi's engine", { skip: missingCli }, () => {
  test("manages four service accounts of four token types in three namespaces", async (t) => {
    const { simulation, cli, directory, pulumi, set, up } = await emptyStack(t, {
      serviceAccounts: FOUR,
      createNamespaces: NAMESPACES,
    });
    const { aws: existing } = simulation.existing();
    succeeded(await up());
    const fifth = "default/pulumi-service-account";
    const policies = () => simulation.pulumiCloud.list()[0]?.registration.policies ?? [];
    const [deployer, drift, ...others] = FOUR;
    // The Job of the runner runs no CLI.
    assert.deepEqual(newStatuses(simulation), [...EXCHANGED, ...EXCHANGED, ...EXCHANGED, 200, 200, 200]);
    assert.equal(policies().length, 4);
    succeeded(await pulumi("preview", "--expect-no-changes"));

    await t.test("creates a fifth service account without touching the others", async () => {
      await set("serviceAccounts", [FIFTH, ...FOUR]);
      // The role, the service account, the Job, and the ConfigMap.
      const created = ["", "", "", ".pulumi-token-exchange"];
      assert.deepEqual(changes(await up()), [
        ...created.map((suffix) => `access.default.pulumi-service-account${suffix} created`),
        `${ISSUER} updated`,
      ]);
      assert.deepEqual(newStatuses(simulation), EXCHANGED);
    });

    await t.test("runs the Job again whose request changes", async () => {
      const shorter = { ...drift, tokenExpirationSeconds: 1800 };
      await set("serviceAccounts", [FIFTH, deployer, shorter, ...others]);
      assert.deepEqual(changes(await up()), [
        "access.team-a.drift replaced",
        "access.team-a.drift.pulumi-token-exchange updated",
      ]);
      assert.deepEqual(newStatuses(simulation), EXCHANGED);
    });

    await t.test("leaves that service account, which gets createServiceAccount: false", async () => {
      for (const step of [{}, { runJob: false }]) {
        await set("serviceAccounts", [{ ...FIFTH, createServiceAccount: false, ...step }, ...FOUR]);
        succeeded(await up());
        assert.ok(simulation.existing().kubernetes.includes(fifth));
      }
    });

    await t.test("denies a removed service account, and deletes only its resources", async () => {
      await set("serviceAccounts", FOUR);
      assert.deepEqual(changes(await up()), [
        "access.default.pulumi-service-account deleted",
        "access.default.pulumi-service-account.pulumi-token-exchange deleted",
        `${ISSUER} updated`,
      ]);
      assert.deepEqual([policies().length, JSON.stringify(policies()).includes(FIFTH.name)], [4, false]);
      assert.ok(simulation.existing().kubernetes.includes(fifth));
    });

    await t.test("fails with the reason while a service account is denied", async () => {
      // Only those of the following updates count.
      newStatuses(simulation);
      const roles = () => simulation.existing().aws.flatMap((name) => name.match(/-team-a-\w+/) ?? []);
      await set("serviceAccounts", [{ ...drift, ...DENY }, ...others]);
      failed(await up(), /Job \(access\.team-a\.drift\):.*HTTP 401: .*access_denied.*unauthorized/s);
      assert.deepEqual(roles().sort(), ["-team-a-deployer", "-team-a-drift"]);

      // The next update runs the failed Job again, and no other.
      failed(await up());
      assert.deepEqual(newStatuses(simulation), [401, 401]);

      await set("serviceAccounts", [{ ...drift, ...DENY, runJob: false }, ...others]);
      succeeded(await up());
      assert.deepEqual(roles(), ["-team-a-drift"]);
      await set("serviceAccounts", [deployer, drift, ...others]);
      succeeded(await up());
      assert.deepEqual(newStatuses(simulation), [...EXCHANGED, ...EXCHANGED]);
    });

    await t.test("keeps a namespace that leaves the list", async () => {
      const { kubernetes } = simulation.existing();
      await set("createNamespaces", ["team-b", "runners"]);
      assert.match(succeeded(await up()).screen, /Namespace access\.team-a deleted .*retain/);
      assert.deepEqual(simulation.existing().kubernetes, kubernetes);
    });

    await t.test("destroys all but the namespaces and what is not the stack's", async () => {
      succeeded(await pulumi("destroy", "--yes", "--skip-preview"));
      const { aws, kubernetes, pulumiCloud } = simulation.existing();
      assert.deepEqual(kubernetes.toSorted(), [fifth, ...NAMESPACES].toSorted());
      assert.deepEqual(pulumiCloud, []);
      assert.deepEqual(aws, existing);
    });

    await t.test("imports an issuer and a service account as docs/copy.md says", async () => {
      const { url } = simulation.issuer;
      const issuer = await simulation.pulumiCloud.register({ organization: "acme", name: "by hand", url });
      await set("createNamespaces", []);
      await set("serviceAccounts", [FIFTH]);
      newStatuses(simulation);
      const command = IMPORT.replace("acme/ISSUER_ID", issuer.id).replace("acme/STACK", "dev");
      succeeded(await cli.run(directory, "bash", "-ec", command));
      succeeded(await up());
      assert.deepEqual(simulation.existing().pulumiCloud, [issuer.id]);
      assert.deepEqual(newStatuses(simulation), EXCHANGED);
    });
  });

  test("denies what is suspended, whatever is deployed next, until that is undone", async (t) => {
    const { simulation, pulumi, set, up } = await emptyStack(t, { serviceAccounts: [FIFTH] });
    const account = "access.default.pulumi-service-account";
    const denyAll = () => simulation.existing().aws.filter((name) => name.endsWith("/AWSDenyAll")).length;
    const state = () => [decisionsIn(simulation).join(), denyAll()];
    succeeded(await up());
    assert.deepEqual(state(), ["allow", 0]);

    await set("serviceAccounts", [{ ...FIFTH, suspended: true }]);
    assert.deepEqual(changes(await up()), [
      `${account} deleted`,
      `${account}.suspended created`,
      `${ISSUER} updated`,
    ]);
    assert.deepEqual(state(), ["deny", 1]);
    succeeded(await pulumi("preview", "--refresh", "--expect-no-changes"));

    await set("serviceAccounts", [FIFTH]);
    await set("suspended", "true");
    succeeded(await up("--refresh"));
    assert.deepEqual(state(), ["deny", 1]);

    newStatuses(simulation);
    await set("suspended", "false");
    assert.deepEqual(changes(await up()), [
      `${account} created`,
      `${account}.suspended deleted`,
      `${ISSUER} updated`,
    ]);
    assert.deepEqual([state(), newStatuses(simulation)], [["allow", 0], EXCHANGED]);
  });

  test("denies what is suspended before it fails, if the API server is unreachable", async (t) => {
    const reader = { ...FIFTH, name: "reader", awsRole: "none", createServiceAccount: false };
    const leaked = { ...FIFTH, name: "leaked" };
    const { simulation, set, up } = await emptyStack(
      t,
      { serviceAccounts: [reader, leaked] },
      { serviceAccounts: ["default/reader"] },
    );
    succeeded(await up());

    // Both take longer than a failure, and a colleague's change, which was not deployed, is in the same update.
    const kinds = ["pulumiservice:index:OidcIssuer", "aws:iam/rolePolicyAttachment:RolePolicyAttachment"];
    for (const [type, method] of [[kinds[0], "update"] as const, [kinds[1], "create"] as const]) {
      const kind = simulation.resources[type ?? ""] ?? assert.fail(type);
      const change: (id: string, inputs: object) => Promise<unknown> = kind[method];
      t.mock.method(kind, method, (id: string, inputs: object) => sleep(1500).then(() => change(id, inputs)));
    }
    const unreachable = () => {
      throw new Error("configured Kubernetes cluster is unreachable");
    };
    for (const [type, kind] of Object.entries(simulation.resources)) {
      if (!type.startsWith("kubernetes:")) continue;
      for (const method of ["create", "update", "read", "delete"] as const) {
        t.mock.method(kind, method, unreachable);
      }
    }
    const changed = { ...reader, tokenExpirationSeconds: 1800 };
    await set("serviceAccounts", [changed, { ...FIFTH, name: "new" }, { ...leaked, suspended: true }]);
    failed(await up(), /cluster is unreachable/);
    assert.deepEqual(decisionsIn(simulation), ["allow", "allow", "deny"]);
    assert.ok(simulation.existing().aws.some((name) => name.endsWith("/AWSDenyAll")));
  });

  test("uses what exists, and waits for what does not", async (t) => {
    const app = { ...FIFTH, name: "app", awsRole: "none", createServiceAccount: false };
    const drift = { ...FOUR[1], namespace: "ops", awsRole: "pod-identity", rolePolicyArns: [READ_ONLY] };
    const existing = { serviceAccounts: ["default/app"], newNamespaces: ["ops"] };
    const { simulation, pulumi, set, up } = await emptyStack(t, { serviceAccounts: [app] }, existing);
    const roles = () => simulation.existing().aws.filter((name) => name.startsWith("pulumi-oidc-"));

    await t.test("reads a service account", async () => {
      succeeded(await up());
      assert.deepEqual(newStatuses(simulation), EXCHANGED);
    });

    await t.test("creates nothing in a namespace until that exists", async () => {
      await set("serviceAccounts", [app, drift]);
      failed(await up(), /namespaces "ops" not found/);
      assert.deepEqual(newStatuses(simulation), []);
      const namespaces = simulation.resources["kubernetes:core/v1:Namespace"] ?? assert.fail();
      const { create } = namespaces;
      // What does not wait for it is too early.
      t.mock.method(namespaces, "create", (...args: Parameters<typeof create>) =>
        sleep(200).then(() => create(...args)),
      );
      await set("createNamespaces", ["ops"]);
      succeeded(await up());
      assert.deepEqual(newStatuses(simulation), EXCHANGED);
    });

    await t.test("replaces a role if rolePath changes, with its policies", async () => {
      const before = roles();
      await set("rolePath", "/pulumi/");
      succeeded(await up());
      const [role = "", attached] = roles();
      assert.match(role, /^pulumi-oidc-ops-drift-/);
      assert.ok(!before.includes(role));
      assert.equal(attached, `${role}/${READ_ONLY}`);
      succeeded(await pulumi("preview", "--refresh", "--expect-no-changes"));
    });
  });

  test("creates a new cluster's issuer once, keeps its thumbprint after the certificate rotates, and destroys the cluster", async (t) => {
    const deployer = { namespace: "ci", name: "deployer", tokenType: "team", teamName: "platform" };
    const settings = {
      createCluster: true,
      createNamespaces: ["ci"],
      serviceAccounts: [{ ...deployer, injectToken: true }],
    };
    const { simulation, cli, pulumi, up } = await emptyStack(t, settings, { cluster: undefined });
    succeeded(await up());
    assert.deepEqual(newStatuses(simulation), EXCHANGED);
    cli.issuerCertificate.renew();
    succeeded(await pulumi("preview", "--expect-no-changes"));

    succeeded(await pulumi("destroy", "--yes"));
    assert.deepEqual(simulation.existing(), { aws: [], kubernetes: ["ci"], pulumiCloud: [] });
  });
});

/** Returns the decision of each policy of the issuer. */
function decisionsIn({ pulumiCloud }: Simulation): string[] {
  const [issuer = assert.fail("there is no issuer")] = pulumiCloud.list();
  return issuer.registration.policies?.map(({ decision }) => decision) ?? [];
}
