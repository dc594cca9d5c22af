// The program on Pulumi's engine, with the simulation as its providers.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { stringify } from "yaml";
import { requestAccessToken } from "../../accessCheck/requestAccessToken";
import { openCertificateAuthority } from "../support/certificates";
import {
  changes,
  EXCHANGED,
  errorsIn,
  failed,
  newStatuses,
  resourcesOf,
  succeeded,
} from "../support/engineOutcome";
import { emptyStack, SETTINGS } from "../support/engineStack";
import { codeIn, read } from "../support/project";
import { missingCli } from "../support/pulumiCli";
import { CLUSTER } from "../support/stack";

const ISSUER = "access.oidc-issuer";
const [IMPORT, IMPORT_NAMESPACE] = codeIn(read("docs/import.md"), "bash");

const ONE = {
  namespace: "default",
  name: "pulumi-service-account",
  tokenType: "personal",
  userLogin: "alice",
  awsRole: "irsa",
};

/** With these settings, a service account is denied: no pod has such a name. */
const DENY = { policyRules: { '"kubernetes.io".pod.name': "other-*" } };

const FOUR = [
  { namespace: "team-a", name: "deployer", tokenType: "personal", userLogin: "alice", awsRole: "irsa" },
  { namespace: "team-a", name: "drift", tokenType: "team", teamName: "platform", rolePolicyArns: [] },
  { namespace: "team-b", name: "secrets", tokenType: "organization" },
  { namespace: "runners", name: "runner", tokenType: "runner", runnerId: "pool-1", runnerName: "builders" },
];
const NAMESPACES = ["team-a", "team-b", "runners"];
const PLATFORM = {
  name: "platform",
  stacks: [{ stack: "app/prod", permission: "edit" }],
  environments: [{ environment: "app/prod", permission: "open" }],
};
const FIFTH = { namespace: "team-b", name: "extra", tokenType: "team", teamName: "extra", awsRole: "irsa" };

// The parts of a test depend on those before them.
describe("the program on Pulumi's engine", { skip: missingCli }, () => {
  test("keeps one service account through changes", async (t) => {
    const stack = await emptyStack(t, { userLogin: "", serviceAccounts: [ONE] });
    const { simulation, cli, directory, pulumi, set, up } = stack;
    succeeded(await up());
    const id = "default/pulumi-service-account";
    assert.deepEqual(newStatuses(simulation), EXCHANGED);

    await t.test("keeps a service account that gets createServiceAccount: false", async () => {
      for (const step of [{}, { runJob: false }]) {
        await set("serviceAccounts", [{ ...ONE, createServiceAccount: false, ...step }]);
        succeeded(await up());
        assert.ok(simulation.existing().kubernetes.includes(id));
      }
    });

    await t.test("leaves that service account when it is destroyed", async () => {
      succeeded(await pulumi("destroy", "--yes"));
      const { kubernetes, pulumiCloud } = simulation.existing();
      assert.deepEqual([kubernetes, pulumiCloud], [[id], []]);
    });

    await t.test("imports an issuer and a service account as docs/import.md says", async () => {
      const { url } = simulation.issuer;
      const issuer = await simulation.pulumiCloud.register({ organization: "acme", name: "by hand", url });
      await set("serviceAccounts", [ONE]);
      const commands = IMPORT?.replace("ORGANIZATION/ISSUER_ID", issuer.id) ?? assert.fail();
      succeeded(await cli.run(directory, "bash", "-ec", commands));
      succeeded(await up());
      assert.deepEqual(simulation.existing().pulumiCloud, [issuer.id]);
      assert.deepEqual(newStatuses(simulation), EXCHANGED);
    });
  });

  test("manages four service accounts of four token types in three namespaces", async (t) => {
    const { simulation, cli, directory, pulumi, set, up } = await emptyStack(
      t,
      {
        userLogin: "",
        serviceAccounts: FOUR,
        createNamespaces: NAMESPACES,
        teams: [PLATFORM],
        createOidcProvider: true,
      },
      { runners: [{ id: "pool-1", name: "builders" }], cluster: { ...CLUSTER, hasOidcProvider: false } },
    );
    succeeded(await up());
    const policies = () => simulation.pulumiCloud.list()[0]?.registration.policies ?? [];
    const [deployer, drift, ...others] = FOUR;
    // The Job of the runner runs no CLI.
    assert.deepEqual(newStatuses(simulation), [...EXCHANGED, ...EXCHANGED, ...EXCHANGED, 200]);
    assert.equal(policies().length, 4);
    const [, ...teams] = simulation.existing().pulumiCloud;
    assert.deepEqual(teams.sort(), [
      "acme/platform",
      "acme/platform: environment app/prod open",
      "acme/platform: stack app/prod 102",
    ]);
    succeeded(await pulumi("preview", "--expect-no-changes"));

    await t.test("stores no token in the state", async () => {
      const state = JSON.stringify(await resourcesOf(pulumi));
      assert.ok(state.includes("exchange-token.sh"));
      assert.doesNotMatch(state, /pul-[0-9a-f]{40}|eyJ[\w-]+\.[\w-]+\./);
    });

    await t.test("creates a fifth service account without touching the others", async () => {
      await set("serviceAccounts", [FIFTH, ...FOUR]);
      // The component, the service account, the Job, and the ConfigMap.
      const created = ["", "", "", ".pulumi-token-exchange"];
      assert.deepEqual(changes(await up()), [
        `${ISSUER} updated`,
        ...created.map((suffix) => `access.team-b.extra${suffix} created`),
      ]);
      assert.deepEqual(newStatuses(simulation), EXCHANGED);
    });

    await t.test("denies a removed service account at once, and deletes only its resources", async () => {
      const { issuer: cluster, pulumiCloud } = simulation;
      const removed = { namespace: FIFTH.namespace, serviceAccount: FIFTH.name };
      const idToken = await cluster.token(removed, { audience: ["urn:pulumi:org:acme"], expiresIn: 600 });
      const team = { tokenType: "team", tokenScope: "team:extra" };
      const request = { organization: "acme", ...team, tokenExpirationSeconds: "7200" };
      const answer = () => requestAccessToken(pulumiCloud.apiUrl, request, idToken);
      assert.equal((await answer()).allowed, true);

      await set("serviceAccounts", FOUR);
      const [issuer, ...others] = changes(await up());
      assert.equal(issuer, `${ISSUER} updated`);
      assert.equal(others.length, 4);
      for (const change of others) assert.match(change, /^access\.team-b\.extra\S* deleted$/);
      assert.deepEqual([policies().length, JSON.stringify(policies()).includes("extra")], [4, false]);
      const { allowed, reason } = await answer();
      assert.equal(allowed, false);
      assert.match(reason, /^no allow policy of the issuer matches/);
    });

    await t.test("fails with the reason while a service account is denied", async () => {
      // Only those of the following updates count.
      newStatuses(simulation);
      const roles = () => simulation.existing().aws.flatMap((name) => name.match(/-team-a-\w+/) ?? []);
      await set("serviceAccounts", [{ ...drift, ...DENY }, ...others]);
      failed(await up(), /Job \(access\.team-a\.drift\):.*HTTP 400.*no allow policy of the issuer matches/s);
      assert.deepEqual(roles().sort(), ["-team-a-deployer", "-team-a-drift"]);

      // The next update runs the failed Job again, and no other.
      failed(await up("--continue-on-error"));
      assert.deepEqual(newStatuses(simulation), [400, 400]);
      assert.deepEqual(roles(), ["-team-a-drift"]);

      await set("serviceAccounts", [{ ...drift, ...DENY, runJob: false }, ...others]);
      succeeded(await up());
      await set("serviceAccounts", [deployer, drift, ...others]);
      succeeded(await up());
      assert.deepEqual(newStatuses(simulation), [...EXCHANGED, ...EXCHANGED]);
    });

    await t.test("keeps a namespace that leaves the list, and takes it back by import", async () => {
      const { kubernetes } = simulation.existing();
      await set("createNamespaces", ["team-b", "runners"]);
      assert.match(succeeded(await up()).screen, /Namespace access\.team-a deleted .*retain/);
      assert.deepEqual(simulation.existing().kubernetes, kubernetes);

      await set("createNamespaces", NAMESPACES);
      failed(await up(), /Namespace \(access\.team-a\):.*already exists/s);
      succeeded(await cli.run(directory, "bash", "-ec", String(IMPORT_NAMESPACE)));
      succeeded(await up());
      assert.deepEqual(simulation.existing().kubernetes, kubernetes);
    });

    await t.test(
      "destroys all but the namespaces, the team, the cluster, and its IAM OIDC provider",
      async () => {
        succeeded(await pulumi("destroy", "--yes", "--skip-preview"));
        const { aws, kubernetes, pulumiCloud } = simulation.existing();
        assert.deepEqual(kubernetes.toSorted(), NAMESPACES.toSorted());
        assert.deepEqual(pulumiCloud, ["acme/platform"]);
        assert.deepEqual(
          aws.map((name) => name.replace(/^.*:(oidc-provider)\/.*$/, "$1")),
          ["my-cluster", "oidc-provider"],
        );
      },
    );
  });

  test("creates a new cluster's issuer once, keeps its thumbprint after the certificate rotates, and destroys the cluster", async (t) => {
    const settings = {
      userLogin: "",
      createCluster: true,
      createNamespaces: ["ci"],
      teams: [
        {
          name: "ops",
          stacks: [{ stack: "app/prod", permission: "read" }],
          environments: [{ environment: "app/prod", permission: "open" }],
        },
      ],
      serviceAccounts: [
        { namespace: "ci", name: "deployer", tokenType: "team", teamName: "ops", injectToken: true },
      ],
    };
    const { simulation, pulumi, up } = await emptyStack(t, settings, { cluster: undefined });
    await t.test("after a preview of everything, which waits for the place of the component", async () => {
      const { stdout } = succeeded(await pulumi("preview", "--json"));
      const { steps } = JSON.parse(stdout) as { steps: { newState: StateResource }[] };
      const states = new Map(steps.map(({ newState }) => [newState.urn, newState]));
      const isPlace = (urn: string) => urn.endsWith(":Stash::access.oidc-issuer.place");
      const waits = (urn: string): boolean => {
        const state = states.get(urn);
        if (!state) return false;
        const { dependencies = [], parent = "" } = state;
        return [...dependencies, parent].some((before) => isPlace(before) || waits(before));
      };
      const children = [...states.values()].filter(({ urn }) =>
        /PulumiCloudAccess\$(?!pulumi:index:Stash)/.test(urn),
      );
      const types = children.map(({ urn }) => /:(\w+)::[^:]*$/.exec(urn)?.[1]);
      assert.deepEqual([...new Set(types)].sort(), [
        "ConfigMap",
        "Job",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "Namespace",
        "OidcIssuer",
        "ServiceAccount",
        "Team",
        "TeamEnvironmentPermission",
        "TeamStackPermission",
        "WorkloadIdentity",
      ]);
      assert.deepEqual(
        children.filter(({ urn }) => !waits(urn)),
        [],
      );
    });

    succeeded(await up());
    assert.deepEqual(newStatuses(simulation), EXCHANGED);
    const { server } = simulation.issuer;
    server.setSecureContext(await (await openCertificateAuthority()).issue({ hosts: ["127.0.0.1"] }));
    // A connection that is kept alive would continue with the previous certificate.
    server.closeAllConnections();
    succeeded(await pulumi("preview", "--expect-no-changes"));

    await t.test("and keeps the cluster in its region, whatever that comes from", async (t) => {
      const deployed = simulation.existing();
      const getRegion = simulation.calls["aws:index/getRegion:getRegion"] ?? assert.fail();
      t.mock.method(getRegion, "answer", () => ({ region: "eu-west-1" }));
      failed(await up(), /region = "eu-west-1": deployed with "us-west-2".*AWS_REGION/s);
      assert.deepEqual(simulation.existing(), deployed);
    });

    succeeded(await pulumi("destroy", "--yes"));
    assert.deepEqual(simulation.existing(), { aws: [], kubernetes: ["ci"], pulumiCloud: ["acme/ops"] });
  });

  test("reads the settings that the CLI saves, before it registers anything", async (t) => {
    const { directory, pulumi, up } = await emptyStack(t);
    const reset = (settings: object) =>
      writeFile(join(directory, "Pulumi.dev.yaml"), stringify({ config: { ...SETTINGS, ...settings } }));

    await t.test("rejects a cluster that does not exist with one message", async (t) => {
      // The SDK prints what a provider throws, and the engine reports it as well.
      t.mock.method(console, "error", () => {});
      await reset({ clusterName: "no" });
      const screen = failed(await up(), /cluster "no" in us-west-2: reading EKS/);
      assert.equal(errorsIn(screen), 1, screen);
      assert.doesNotMatch(screen, /^\s+at /m);
      // The engine's own remain: the stack, and the default provider of AWS.
      assert.ok((await resourcesOf(pulumi)).every(({ type }) => type.startsWith("pulumi:")));
    });

    await t.test("rejects an encrypted setting, which would be in plaintext in the state", async () => {
      await reset({ userLogin: "", serviceAccounts: FOUR });
      await pulumi("config", "set", "--secret", "--path", "serviceAccounts[1].teamName", "hunter2");
      const screen = failed(
        await pulumi("preview"),
        /\(1 problem\).*serviceAccounts: contains an encrypted value, which would be stored in plaintext/s,
      );
      assert.doesNotMatch(screen, /hunter2/);
    });

    await t.test("accepts service accounts of `config set --path`, and converts no value", async () => {
      await reset({ userLogin: "" });
      const setIn = async (key: string, value: string, ...options: string[]) =>
        succeeded(await pulumi("config", "set", ...options, "--path", `serviceAccounts[0].${key}`, value));
      const names = { namespace: "default", name: "drift", tokenType: "team" };
      const entry = { ...names, teamName: "777", runJob: "false", tokenExpirationSeconds: "900" };
      for (const [key, value] of Object.entries(entry)) await setIn(key, value);
      failed(
        await pulumi("preview"),
        /\(1 problem\).*teamName = 777: must be a string, but YAML reads it as a number; .*--type string/s,
      );
      await setIn("teamName", "777", "--type", "string");
      succeeded(await pulumi("preview"));
    });
  });
});

interface StateResource {
  urn: string;
  parent?: string;
  dependencies?: string[];
}
