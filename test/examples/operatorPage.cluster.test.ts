// The four steps of docs/operator.md on a real API server, with the Stacks of two service accounts.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { parse, parseAllDocuments } from "yaml";
import { type ApiServer, eventually, missingApiServer, startApiServer } from "../environment/apiServer";
import { policyTakesEffect } from "../environment/pods";
import { inject } from "../environment/realKubernetes";
import { defineStacks, type Events, startOperator } from "../environment/stackResources";
import { missingJq } from "../support/programs";
import { commandsWith, read } from "../support/project";

const PAGE = read("docs/operator.md");
const TOKEN = `pul-${randomBytes(20).toString("hex")}`;
const ENCODED = Buffer.from(TOKEN).toString("base64");
const RELEASE = gzipSync(`token: ${ENCODED}`).toString("base64");
/** Longer than a script sleeps. */
const SECONDS_OF_LOOP = 7;

/** `job` and `site` are denied the exchange at first. */
const STACKS = `
{ kind: Stack, apiVersion: pulumi.com/v1, metadata: { name: app, namespace: team-a }, spec: {
  serviceAccountName: deployer, envRefs: { PULUMI_ACCESS_TOKEN: { type: Secret, secret: { name: stored, key: a } } } } }
---
{ kind: Stack, apiVersion: pulumi.com/v1, metadata: { name: job, namespace: team-a }, spec: {
  serviceAccountName: deployer, accessTokenSecret: stored } }
---
{ kind: Stack, apiVersion: pulumi.com/v1, metadata: { name: shop, namespace: team-b }, spec: {
  serviceAccountName: runner, accessTokenSecret: stored, workspaceTemplate: { spec: { podTemplate: { spec: {
    containers: [{ name: pulumi, volumeMounts: [{ name: cache, mountPath: /cache }] }],
    volumes: [{ name: cache, emptyDir: {} }] } } } } } }
---
{ kind: Stack, apiVersion: pulumi.com/v1, metadata: { name: site, namespace: team-b }, spec: {
  serviceAccountName: runner, envRefs: { PULUMI_ACCESS_TOKEN: { type: Secret, secret: { name: stored, key: a } } } } }
`;

/** What stores, writes, and reads a token. */
const OTHERS = `
{ kind: Secret, apiVersion: v1, metadata: { name: stored, namespace: team-a }, stringData: { a: ${TOKEN}, b: cHVsLTpull } }
---
{ kind: Secret, apiVersion: v1, metadata: { name: stored, namespace: team-b, annotations: { copy: ${TOKEN} } } }
---
{ kind: ConfigMap, apiVersion: v1, metadata: { name: other, namespace: team-b },
  data: { literal: ${TOKEN}, no: pull-request }, binaryData: { twice: ${ENCODED} } }
---
{ kind: Secret, apiVersion: v1, metadata: { name: release, namespace: team-b }, type: helm.sh/release.v1,
  stringData: { release: ${RELEASE} } }
---
{ kind: ExternalSecret, apiVersion: external-secrets.io/v1, metadata: { name: copy, namespace: team-a },
  spec: { target: { name: stored } } }
---
{ kind: Deployment, apiVersion: apps/v1, metadata: { name: reader, namespace: team-a }, spec: {
  selector: { matchLabels: { app: reader } }, template: { metadata: { labels: { app: reader } }, spec: {
    containers: [{ name: app, image: "example.com/image:1", envFrom: [{ secretRef: { name: stored } }] }] } } } }
`;

// Each test continues where the one before it has ended.
describe("docs/operator.md", { skip: missingApiServer || missingJq }, () => {
  let server: ApiServer;
  let stop = async () => {};
  const denied = new Set(["team-a/job", "team-b/site"]);
  const events: Events = { updating: new Set(), denied, interrupted: new Set() };

  before(async () => {
    server = await startApiServer();
    await defineStacks(server);
    for (const [namespace = "", account = ""] of [
      ["team-a", "deployer"],
      ["team-b", "runner"],
    ]) {
      await server.createNamespace(namespace);
      await server.createServiceAccount(namespace, account);
    }
    for (const document of parseAllDocuments(`${STACKS}---\n${OTHERS}`)) {
      await server.kubectl(["create", "--filename=-"], document.toJS());
    }
    stop = startOperator(server, events);
    const stacks = ["stacks.pulumi.com", "--all", "--all-namespaces"];
    await server.kubectl(["wait", ...stacks, "--for=jsonpath={.status.lastUpdate.state}", "--timeout=1m"]);
  });
  after(async () => {
    await stop();
    await server?.close();
  });

  /** Runs commands, and returns what they print, one line each, in an order of its own. */
  async function run(commands: string): Promise<string[]> {
    return (await server.shell(commands)).replaceAll("\t", " ").split("\n").filter(Boolean).sort();
  }

  /** Runs a command of the page's table, also for the other service account. */
  function move(action: string, place = "team-a deployer"): Promise<string[]> {
    assert.ok(PAGE.includes(`\`bash examples/operator/move-stacks.sh ${action} team-a deployer\``));
    return run(`bash examples/operator/move-stacks.sh ${action} ${place}`);
  }

  const find = () => run(commandsWith(PAGE, "find-tokens.sh\n"));
  const statesOf = (lines: string[]) =>
    lines.flatMap((line) => /^# Stack \S+ (\S+ \S+ \S+)/.exec(line)?.[1] ?? []);

  const stackOf = async (path: string) => {
    const [namespace, name] = path.split("/");
    return (await server.request("GET", `/apis/pulumi.com/v1/namespaces/${namespace}/stacks/${name}`)).body;
  };
  const specsOf = (...paths: string[]) => Promise.all(paths.map(async (path) => (await stackOf(path)).spec));
  const [app, job, shop, site] = parseAllDocuments(STACKS).map((document) => document.toJS().spec);

  test("1. lists what stores, writes, and reads a token, and prints an entry for each service account", async () => {
    const lines = await find();
    assert.deepEqual(
      lines.filter((line) => line.startsWith("#")),
      [
        "# Stack team-a app deployer stored 3.276.0 envRefs:stored",
        "# Stack team-a job deployer stored 3.276.0 accessTokenSecret:stored",
        "# Stack team-b shop runner stored 3.276.0 accessTokenSecret:stored",
        "# Stack team-b site runner stored 3.276.0 envRefs:stored",
        "# reads Deployment team-a reader stored",
        "# stores ConfigMap team-b other literal",
        "# stores ConfigMap team-b other twice",
        "# stores Helm team-b release",
        "# stores Secret team-a stored a",
        "# stores Secret team-b stored copy",
        "# writes ExternalSecret team-a copy stored",
      ],
    );
    const entries = [
      ["team-a", "deployer"],
      ["team-b", "runner"],
    ].map(([namespace, name]) => ({ namespace, name, createServiceAccount: false, injectToken: false }));
    const teams = entries.map((entry) => ({ ...entry, tokenType: "team", teamName: entry.namespace }));
    assert.deepEqual(parse(await server.shell("bash examples/operator/find-tokens.sh")), teams);
    const users = entries.map((entry) => ({ ...entry, tokenType: "personal", userLogin: "bot" }));
    assert.deepEqual(parse(await server.shell("bash examples/operator/find-tokens.sh bot")), users);
  });

  test("2. prints no entry for a service account that has one", async () => {
    for (const [namespace, account] of [
      ["team-a", "deployer"],
      ["team-b", "runner"],
    ]) {
      const name = `${account}-pulumi-token-exchange`;
      await run(`kubectl create configmap ${name} --namespace ${namespace} --from-literal=organization=acme`);
    }
    assert.deepEqual(
      (await find()).filter((line) => !line.startsWith("#")),
      [],
    );
  });

  test("3. replaces the pods of injected Stacks, each once it is not updating, and names the one that fails", async () => {
    const account = { namespace: "team-a", name: "deployer", tokenAudience: "urn:pulumi:org:acme" };
    await inject(server, "access.inject-token", [account]);
    await policyTakesEffect(server, account.namespace, account.name);
    events.updating.add("team-a/app");
    await run(commandsWith(PAGE, "kubectl annotate"));
    await eventually("an update runs", async () =>
      Boolean((await stackOf("team-a/app")).status.currentUpdate),
    );
    const release = sleep(SECONDS_OF_LOOP * 1000).then(() => events.updating.clear());

    await assert.rejects(move("replace-pods"), {
      code: 1,
      stdout: "team-a/job: FAILED: denied\nteam-a/app: exchange, Pulumi 3.276.0\n",
      stderr: /^team-a\/app: waiting for the update app-\d+\nFAILED: team-a\/job\n$/m,
    });
    await release;
    assert.deepEqual([...events.interrupted], []);

    denied.delete("team-a/job");
    const expected = ["team-a/app: exchange, Pulumi 3.276.0", "team-a/job: exchange, Pulumi 3.276.0"];
    assert.deepEqual(await move("replace-pods"), expected);
    assert.deepEqual(await specsOf("team-a/app", "team-a/job"), [app, job]);
  });

  test("3. mounts the exchange beside other volumes, as kustomization.yaml does, and only in what is left", async () => {
    const failed = { code: 1, stdout: /^team-b\/site: FAILED: denied$/m, stderr: /^FAILED: team-b\/site$/m };
    await assert.rejects(move("mount", "team-b runner"), failed);
    denied.clear();
    const expected = ["team-b/shop: nothing to do", "team-b/site: succeeded"];
    assert.deepEqual(await move("mount", "team-b runner"), expected);

    const [{ patch }] = parse(read("examples/operator/kustomization.yaml")).patches;
    const { spec: mount } = parse(patch.replace("deployer", "runner"), { version: "1.1" });
    const { containers, volumes } = mount.workspaceTemplate.spec.podTemplate.spec;
    const [withOwn, plain] = await specsOf("team-b/shop", "team-b/site");
    assert.deepEqual(plain, { ...site, ...mount, envRefs: { ...site.envRefs, ...mount.envRefs } });
    const own = shop.workspaceTemplate.spec.podTemplate.spec;
    const volumeMounts = [...own.containers[0].volumeMounts, ...containers[0].volumeMounts];
    assert.deepEqual(withOwn.workspaceTemplate.spec.podTemplate.spec, {
      containers: [{ name: "pulumi", volumeMounts }],
      volumes: [...own.volumes, ...volumes],
    });
  });

  test("4. removes the token from Stacks, but not from those that went back, and then the Secret", async () => {
    await server.kubectl(["delete", "mutatingadmissionpolicybindings", "--all"]);
    await eventually("no pod is injected", async () => {
      return (await move("replace-pods"))[0] === "team-a/app: stored, Pulumi 3.276.0";
    });
    const states = ["app deployer stored", "job deployer stored", "shop runner both", "site runner both"];
    assert.deepEqual(statesOf(await find()), states);

    const removed = ["team-b/shop: succeeded", "team-b/site: succeeded"];
    assert.deepEqual(await run(commandsWith(PAGE, "move-stacks.sh remove-token")), removed);
    const command = "bash examples/operator/move-stacks.sh remove-token team-a deployer";
    const skipped = {
      code: 1,
      stdout: /^team-a\/app: SKIPPED, because it does not use the exchange: stored$/m,
    };
    await assert.rejects(run(command), skipped);
    assert.deepEqual(await specsOf("team-a/app", "team-a/job"), [app, job]);

    await run(commandsWith(PAGE, "kubectl delete secret").replace("pulumi-api-secret", "stored"));
    assert.deepEqual(statesOf(await find()), ["app deployer stored", "job deployer stored"]);
  });

  test("goes back to what the Stacks were, without their token", async () => {
    await move("unmount", "team-b runner");
    const { accessTokenSecret: _, ...shopWithoutToken } = shop;
    const { envRefs: __, ...siteWithoutToken } = site;
    assert.deepEqual(await specsOf("team-b/shop", "team-b/site"), [shopWithoutToken, siteWithoutToken]);
    assert.deepEqual([...events.interrupted], []);
  });
});
