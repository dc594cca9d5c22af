// The program on Pulumi's engine, with the simulation as its providers.

import assert from "node:assert/strict";
import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { requestAccessToken } from "../../accessCheck/requestAccessToken";
import type { Simulation } from "../../simulator/emulators/simulation";
import { changes, DENY, EXCHANGED, failed, resourcesOf, statuses, succeeded } from "../support/engineOutcome";
import { createdStack, emptyStack, type Stack } from "../support/engineStack";
import { codeIn, read } from "../support/project";
import { missingCli } from "../support/pulumiCli";
import { CLUSTER, FOUR_ACCOUNTS } from "../support/stack";

const ACCOUNT = "access.default.pulumi-service-account";
const ISSUER = "access.oidc-issuer";

const SETTINGS_OF_FOUR = { ...FOUR_ACCOUNTS.settings, userLogin: "" };
const FOUR = FOUR_ACCOUNTS.settings.serviceAccounts;
const RUNNERS = { runners: FOUR_ACCOUNTS.runners };

const FIFTH = { namespace: "team-b", name: "extra", tokenType: "team", teamName: "extra" };

describe("the program on Pulumi's engine", { skip: missingCli }, () => {
  test("updates the ConfigMap in place and runs the Job again when the script changes", async (t) => {
    const { simulation, directory, up } = await createdStack(t);
    await appendFile(join(directory, "scripts", "exchange-token.sh"), "# changed\n");

    assert.deepEqual(changes(await up()), [
      `${ACCOUNT} replaced`,
      `${ACCOUNT}.pulumi-token-exchange updated`,
    ]);
    assert.deepEqual(statuses(simulation), [...EXCHANGED, ...EXCHANGED]);
  });

  test("manages four service accounts of four token types in three namespaces", async (t) => {
    const { simulation, log, pulumi, set, up } = await createdStack(
      t,
      { ...SETTINGS_OF_FOUR, createOidcProvider: true },
      { ...RUNNERS, cluster: { ...CLUSTER, hasOidcProvider: false } },
    );
    const policies = () => simulation.pulumiCloud.list()[0]?.registration.policies ?? [];
    assert.deepEqual(statuses(simulation), [...EXCHANGED, ...EXCHANGED, ...EXCHANGED, 200]);
    assert.deepEqual([policies().length, simulation.existing().pulumiCloud.length], [4, 1]);
    assert.ok(log.includes("alice"));
    succeeded(await pulumi("preview", "--expect-no-changes"));
    succeeded(await pulumi("refresh", "--yes", "--expect-no-changes"));

    await t.test("stores no token in the state", async () => {
      const state = JSON.stringify(await resourcesOf(pulumi));
      assert.ok(state.includes("exchange-token.sh"));
      assert.doesNotMatch(state, /pul-[0-9a-f]{40}|eyJ[\w-]+\.[\w-]+\./);
    });

    await t.test("creates a fifth one without touching the others", async () => {
      await set("serviceAccounts", [FIFTH, ...FOUR]);
      const created = ["", "", "", ".pulumi-token-exchange"];
      assert.deepEqual(changes(await up()), [
        `${ISSUER} updated`,
        ...created.map((suffix) => `access.team-b.extra${suffix} created`),
      ]);
      assert.equal(statuses(simulation).length, 9);
    });

    await t.test(
      "updates the issuer in place, and runs only the Job of the one whose team changes",
      async () => {
        await set("serviceAccounts", [{ ...FIFTH, teamName: "security" }, ...FOUR]);
        assert.deepEqual(changes(await up()), [
          `${ISSUER} updated`,
          "access.team-b.extra replaced",
          "access.team-b.extra.pulumi-token-exchange updated",
        ]);
        assert.deepEqual(simulation.pulumiCloud.exchanges.at(-1)?.reason, "team token, scope team:security");
      },
    );

    await t.test("denies a removed one at once, and deletes only its resources", async () => {
      const { issuer: cluster, pulumiCloud } = simulation;
      const removed = { namespace: FIFTH.namespace, serviceAccount: FIFTH.name };
      const idToken = await cluster.token(removed, { audience: ["urn:pulumi:org:acme"], expiresIn: 600 });
      const request = {
        organization: "acme",
        tokenType: "team",
        tokenScope: "team:security",
        tokenExpirationSeconds: "7200",
      };
      const answer = () => requestAccessToken(pulumiCloud.url, request, idToken);
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

    await t.test(
      "leaves only the namespaces, the cluster, and its IAM OIDC provider after destroy",
      async () => {
        succeeded(await pulumi("destroy", "--yes"));
        const { aws, kubernetes, pulumiCloud } = simulation.existing();
        assert.deepEqual(kubernetes.toSorted(), SETTINGS_OF_FOUR.createNamespaces.toSorted());
        assert.deepEqual(pulumiCloud, []);
        assert.deepEqual(
          aws.map((name) => name.replace(/^.*:(oidc-provider)\/.*$/, "$1")),
          ["my-cluster", "oidc-provider"],
        );
      },
    );
  });

  test("fails the update for a denied service account by name and reason, keeps what was removed, and completes later", async (t) => {
    const { simulation, pulumi, set, up } = await createdStack(t, SETTINGS_OF_FOUR, RUNNERS);
    const rolesOf = (name: string) =>
      simulation.existing().aws.filter((it) => it.includes(`-team-a-${name}-`));
    const [deployer, drift, ...others] = FOUR;
    const before = statuses(simulation).length;
    const statusesSince = () => statuses(simulation).slice(before);

    await set("serviceAccounts", [{ ...drift, ...DENY }, ...others]);
    failed(
      await up(),
      /Job \(access\.team-a\.drift\):.*HTTP 400.*no allow policy of the issuer matches.*Without --continue-on-error, this update has deleted nothing.*set runJob to false/s,
    );
    assert.equal(rolesOf("deployer").length, 1);

    // The next update runs the failed Job again, and no other.
    failed(await up("--continue-on-error"));
    assert.deepEqual(statusesSince(), [400, 400]);
    assert.deepEqual([rolesOf("deployer").length, rolesOf("drift").length], [0, 1]);

    await set("serviceAccounts", [{ ...drift, ...DENY, runJob: false }, ...others]);
    succeeded(await up());
    await set("serviceAccounts", [deployer, drift, ...others]);
    succeeded(await up());
    assert.deepEqual(statusesSince().slice(2), [...EXCHANGED, ...EXCHANGED]);
    succeeded(await pulumi("preview", "--expect-no-changes"));
  });

  test("keeps a live service account that is no longer the stack's: first with its Job, then without", async (t) => {
    const { simulation, pulumi, set, up } = await createdStack(t);
    const [namespace, name] = ["default", "pulumi-service-account"];
    const entry = { namespace, name, tokenType: "personal", userLogin: "alice", createServiceAccount: false };
    succeeded(await pulumi("config", "rm", "userLogin"));
    for (const step of [{}, { runJob: false }]) {
      await set("serviceAccounts", [{ ...entry, ...step }]);
      succeeded(await up());
      assert.ok(simulation.existing().kubernetes.includes(`${namespace}/${name}`));
    }
    succeeded(await pulumi("destroy", "--yes"));
    assert.deepEqual(simulation.existing().kubernetes, [`${namespace}/${name}`]);
  });

  test("keeps a namespace that leaves createNamespaces, with what is in it, and takes it back by import", async (t) => {
    const stack = await createdStack(t, SETTINGS_OF_FOUR, RUNNERS);
    const { simulation, cli, directory, pulumi, set, up } = stack;
    const { kubernetes } = simulation.existing();

    await set("createNamespaces", ["team-b", "runners"]);
    assert.match(succeeded(await up()).screen, /Namespace access\.team-a deleted .*retain/);
    assert.deepEqual(simulation.existing().kubernetes, kubernetes);
    succeeded(await pulumi("preview", "--refresh", "--expect-no-changes"));

    await set("createNamespaces", ["team-a", "team-b", "runners"]);
    failed(await up(), /Namespace \(access\.team-a\):.*already exists/s);

    const [, commands = ""] = codeIn(read("docs/import.md"), "bash");
    succeeded(await cli.run(directory, "bash", "-ec", commands));
    succeeded(await up());
    assert.deepEqual(simulation.existing().kubernetes, kubernetes);
    succeeded(await pulumi("preview", "--expect-no-changes"));
  });

  describe("another organization", () => {
    test("replaces the old one, and the Job tests it", async (t) => {
      const { simulation, set, up } = await createdStack(t);
      await set("organization", "other");
      succeeded(await up());
      assert.match(simulation.existing().pulumiCloud.join(), /^other\/[^,]*$/);
      assert.deepEqual(statuses(simulation), [...EXCHANGED, ...EXCHANGED]);
    });

    test("that denies the issuer leaves the old one in force, with the settings of its workloads", async (t) => {
      const { simulation, set, up } = await createdStack(t);
      const before = simulation.existing();
      const issuers = simulation.resources["pulumiservice:index:OidcIssuer"] ?? assert.fail();
      t.mock.method(issuers, "create", async () => {
        throw new Error("403 API error: Forbidden");
      });
      t.mock.method(console, "error", () => {});

      await set("organization", "other");
      failed(await up("--continue-on-error"));
      assert.deepEqual(simulation.existing().pulumiCloud, before.pulumiCloud);
      const settings = simulation.resources["kubernetes:core/v1:ConfigMap"]?.read(
        "default/pulumi-service-account-pulumi-token-exchange",
      );
      assert.match(JSON.stringify(settings), /"organization":"acme"/);
    });
  });

  test("stays quiet after the first update, whatever becomes of the issuer's thumbprint", async (t) => {
    const { simulation, pulumi } = await createdStack(t);
    const [{ id, registration } = assert.fail()] = simulation.pulumiCloud.list();
    assert.deepEqual(registration.thumbprints, [simulation.issuer.thumbprint()]);

    // Pulumi Cloud may answer in another form, and the certificate rotates.
    await simulation.pulumiCloud.update(id, { thumbprints: [simulation.issuer.thumbprint().toUpperCase()] });
    await simulation.issuer.rotateCertificate();
    succeeded(await pulumi("preview", "--expect-no-changes"));
    succeeded(await pulumi("preview", "--refresh", "--expect-no-changes"));
    succeeded(await pulumi("refresh", "--yes"));
    succeeded(await pulumi("preview", "--expect-no-changes"));
    succeeded(await pulumi("up", "--yes", "--expect-no-changes"));
  });

  test("registers an issuer again that was deleted elsewhere, and the Job tests it", async (t) => {
    const { simulation, up } = await createdStack(t);
    for (const id of simulation.existing().pulumiCloud) {
      simulation.resources["pulumiservice:index:OidcIssuer"]?.delete(id);
    }

    assert.ok(changes(await up("--refresh")).includes(`${ACCOUNT} replaced`));
    assert.deepEqual(statuses(simulation), [...EXCHANGED, ...EXCHANGED]);
  });

  test("creates a new cluster's issuer once, keeps its thumbprint, and destroys the cluster", async (t) => {
    const { simulation, pulumi, up } = await emptyStack(t, { createCluster: true }, { cluster: undefined });
    succeeded(await pulumi("preview"));
    succeeded(await up());
    assert.deepEqual(statuses(simulation), EXCHANGED);
    await simulation.issuer.rotateCertificate();
    succeeded(await pulumi("preview", "--expect-no-changes"));

    succeeded(await pulumi("destroy", "--yes"));
    assert.deepEqual(simulation.existing(), { aws: [], kubernetes: [], pulumiCloud: [] });
  });

  for (const [what, settings, ...messages] of [
    [
      "invalid configuration",
      { organization: "", userLogin: "", maxExpirationSeconds: -5 },
      /Invalid configuration in Pulumi\.dev\.yaml \(3 problems\)\. Nothing was changed\./,
      /organization: required, because the stack has no organization/,
      /userLogin: required without serviceAccounts/,
      /maxExpirationSeconds = -5: must be at least 1 second/,
    ],
    [
      "a cluster that does not exist",
      { clusterName: "nowhere" },
      /Failed to look up EKS cluster "nowhere" in us-west-2: reading EKS/,
    ],
  ] satisfies [string, object, ...RegExp[]][]) {
    test(`rejects ${what} in preview and up with one message, and registers nothing`, async (t) => {
      await stopsCleanly(t, await emptyStack(t, settings), ...messages);
    });
  }

  test("rejects a login that is not for pulumiApiUrl, and registers nothing", async (t) => {
    const { cli, directory, ...stack } = await emptyStack(t);
    const withLogin = (...args: string[]) =>
      cli.run(directory, "env", "PULUMI_API=https://other.example.com", "pulumi", "--color=never", ...args);
    await stopsCleanly(
      t,
      { ...stack, cli, directory, pulumi: withLogin, up: () => withLogin("up", "--yes", "--skip-preview") },
      /pulumiApiUrl = "https:\/\/api\.pulumi\.com": .* \(PULUMI_API\) is https:\/\/other\.example\.com/,
    );
  });

  test("stops before a changed pulumiApiUrl changes anything, and can be destroyed then", async (t) => {
    const { simulation, pulumi, set, up } = await createdStack(t);
    const deployed = simulation.existing();
    const state = await resourcesOf(pulumi);

    await set("pulumiApiUrl", "https://pulumi.example.com");
    await set("createOidcProvider", true);
    for (const outcome of [await pulumi("preview"), await up()]) {
      const screen = failed(
        outcome,
        /deployed with https:\/\/api\.pulumi\.com, which would continue to grant access tokens.*`pulumi destroy`/s,
      );
      assert.equal(screen.split("Diagnostics:")[1]?.match(/error:/g)?.length, 1, screen);
    }
    assert.deepEqual(simulation.existing(), deployed);
    assert.deepEqual(await resourcesOf(pulumi), state);

    succeeded(await pulumi("destroy", "--yes"));
    assert.deepEqual(simulation.existing().pulumiCloud, []);
    succeeded(await up());
  });

  test("replaces what is on the cluster only for another cluster, not for a renewed endpoint", async (t) => {
    const { simulation, pulumi, set, up } = await createdStack(t);
    const getCluster = simulation.calls["aws:eks/getCluster:getCluster"] ?? assert.fail();
    const { answer } = getCluster;
    const found = { endpoint: "https://renewed.example" };
    t.mock.method(getCluster, "answer", (inputs: object) => ({ ...answer(inputs), ...found }));
    assert.deepEqual(changes(await up()), ["cluster updated"]);

    Object.assign(found, { identities: [{ oidcs: [{ issuer: simulation.otherIssuer.url }] }] });
    await set("createOidcProvider", true);
    const { screen } = succeeded(await pulumi("preview"));
    for (const type of ["providers:kubernetes", "ServiceAccount", "ConfigMap", "Job", "OidcIssuer"]) {
      assert.match(screen, new RegExp(`:${type} .*replace`));
    }
  });

  test("rejects an encrypted setting, which would be in plaintext in the state", async (t) => {
    const { pulumi } = await emptyStack(t, { serviceAccounts: FOUR, userLogin: "" });
    await pulumi("config", "set", "--secret", "--path", "serviceAccounts[1].teamName", "hunter2");
    const screen = failed(
      await pulumi("preview"),
      /\(1 problem\).*serviceAccounts: contains an encrypted value, which would be stored in plaintext/s,
    );
    assert.doesNotMatch(screen, /hunter2/);
  });

  test("accepts service accounts set by pulumi config set --path, and converts no value", async (t) => {
    const { pulumi } = await emptyStack(t, { userLogin: "" });
    const set = async (key: string, value: string, ...options: string[]) =>
      succeeded(await pulumi("config", "set", ...options, "--path", `serviceAccounts[0].${key}`, value));
    const names = { namespace: "default", name: "drift", tokenType: "team" };
    const entry = { ...names, teamName: "777", runJob: "false", tokenExpirationSeconds: "900" };
    for (const [key, value] of Object.entries(entry)) await set(key, value);
    failed(
      await pulumi("preview"),
      /\(1 problem\).*teamName = 777: must be a string, but YAML reads it as a number; .*--type string/s,
    );

    await set("teamName", "777", "--type", "string");
    succeeded(await pulumi("preview"));
  });

  test("shows in the preview's outputs what is known already", async (t) => {
    const { pulumi } = await emptyStack(t);
    const { screen } = succeeded(await pulumi("preview"));
    const [, outputs = assert.fail(screen)] = screen.split("Outputs:");
    assert.match(outputs, /configMap *: "pulumi-service-account-pulumi-token-exchange"/);
    assert.match(outputs, /jobName *: "pulumi-service-account-token-exchange"/);
    assert.match(outputs, /tokenType *: "personal"/);
    assert.match(outputs, /roleArn *: \[unknown\]/);
  });

  for (const [cluster, settings, options] of [
    ["an existing cluster", {}, {}],
    ["a new cluster", { createCluster: true }, { cluster: undefined }],
  ] as const) {
    test(`a preview of ${cluster} puts no unknown value into a string`, async (t) => {
      const { pulumi } = await emptyStack(t, settings, options);
      const { stdout } = succeeded(await pulumi("preview", "--json"));
      const { steps }: { steps: { newState: { inputs?: object } }[] } = JSON.parse(stdout);

      const strings = steps.flatMap(({ newState }) => stringsOf(newState.inputs));
      assert.ok(strings.includes(UNKNOWN));
      const containing = strings.filter((value) => value !== UNKNOWN && CONTAINS_UNKNOWN.test(value));
      assert.deepEqual(containing, []);
    });
  }

  test("creates the policies of injectToken in an order that denies no pod, and deletes them when it is off", async (t) => {
    const accounts = [FIFTH, { ...FIFTH, namespace: "team-a" }];
    const settings = { serviceAccounts: accounts, userLogin: "", injectToken: true };
    const { simulation, pulumi, set, up } = await emptyStack(t, settings);
    const { types, events } = recordedOrder(t, simulation);
    const created = types.map((type) => `create ${type}`);
    const deleted = types.toReversed().map((type) => `delete ${type}`);

    assert.match(
      succeeded(await pulumi("preview")).screen,
      /:MutatingAdmissionPolicy +access\.inject-token +create/,
    );
    succeeded(await up());
    assert.deepEqual(events.splice(0), created);
    succeeded(await pulumi("preview", "--expect-no-changes"));
    succeeded(await pulumi("refresh", "--yes", "--expect-no-changes"));
    succeeded(await pulumi("preview", "--expect-no-changes"));

    await set("serviceAccounts", accounts.toReversed());
    assert.doesNotMatch(succeeded(await up()).screen, /access\.inject-token +updated/);
    await set("serviceAccounts", accounts.slice(1));
    assert.ok(changes(await up()).includes("access.inject-token updated"));

    await set("injectToken", "false");
    succeeded(await up());
    assert.deepEqual(events.splice(0), deleted);
    succeeded(await pulumi("preview", "--expect-no-changes"));

    await set("injectToken", "true");
    succeeded(await up());
    events.length = 0;
    succeeded(await pulumi("destroy", "--yes"));
    assert.deepEqual(events, deleted);
    assert.deepEqual(simulation.existing().kubernetes, []);
  });
});

// How @pulumi/pulumi's rpc.ts passes on what is not known yet.
const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

const CONTAINS_UNKNOWN = new RegExp(`${UNKNOWN}|Output<|\\[object |\\bundefined\\b`);

async function stopsCleanly(
  t: TestContext,
  { simulation, pulumi, up }: Stack,
  ...messages: RegExp[]
): Promise<void> {
  // The SDK prints what a provider throws, and the engine reports it as well.
  t.mock.method(console, "error", () => {});
  const before = simulation.existing();
  for (const outcome of [await pulumi("preview"), await up()]) {
    const screen = failed(outcome, ...messages);
    assert.equal(screen.split("Diagnostics:")[1]?.match(/error:/g)?.length, 1, screen);
    assert.doesNotMatch(screen, /^\s+at /m);
  }
  assert.deepEqual(simulation.existing(), before);
  // The engine's own remain: the stack and, once something was read, the default provider of AWS.
  assert.ok((await resourcesOf(pulumi)).every(({ type }) => type.startsWith("pulumi:")));
}

/** Records in which order the admission policies are created and deleted. */
function recordedOrder(t: TestContext, { resources }: Simulation) {
  const events: string[] = [];
  const types = ["Mutating", "Validating"].flatMap((kind) => [
    `${kind}AdmissionPolicy`,
    `${kind}AdmissionPolicyBinding`,
  ]);
  for (const type of types) {
    const kind = resources[`kubernetes:admissionregistration.k8s.io/v1:${type}`] ?? assert.fail(type);
    const { create, delete: remove } = kind;
    t.mock.method(kind, "create", (...args: Parameters<typeof create>) => {
      events.push(`create ${type}`);
      return create(...args);
    });
    t.mock.method(kind, "delete", (id: string) => {
      events.push(`delete ${type}`);
      remove(id);
    });
  }
  return { types, events };
}

/** Returns every string in the value, including the keys of its objects. */
function stringsOf(value: unknown): string[] {
  if (typeof value === "string") return [value];
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, element]) => [key, ...stringsOf(element)]);
}
