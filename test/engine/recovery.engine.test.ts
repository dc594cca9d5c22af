// The steps of docs/troubleshooting.md on Pulumi's engine: each test causes a failure, and does what the page says.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Reply, startServer } from "../../simulator/pulumiCloud";
import { eventually } from "../environment/apiServer";
import { serveCloudApi } from "../environment/cloudApi";
import { failed, succeeded } from "../environment/engineOutcome";
import { emptyStack } from "../environment/engineStack";
import { missingCli, pathOf } from "../environment/pulumiCli";
import type { Simulation, SimulationOptions } from "../environment/simulation";
import { missingJq, writePrograms } from "../support/programs";
import { blocksOf, read, sectionOf } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

const PAGE = read("docs/troubleshooting.md");

const APP = { namespace: "default", name: "app", tokenType: "organization" };
const WEB = { ...APP, name: "web" };
/** With these settings, a service account is denied: no pod has such a name. */
const DENY = { policyRules: { '"kubernetes.io".pod.name': "other-*" } };

const ISSUER = "pulumiservice:index:OidcIssuer";
const ROLE = "aws:iam/role:Role";
const SERVICE_ACCOUNT = "kubernetes:core/v1:ServiceAccount";
const CONFIG_MAP = "kubernetes:core/v1:ConfigMap";
const JOB = "kubernetes:batch/v1:Job";
const ADMISSION_POLICY = "kubernetes:admissionregistration.k8s.io/v1:MutatingAdmissionPolicy";

describe("recovery on Pulumi's engine", { skip: missingCli }, () => {
  describe("while a Job fails", () => {
    const injected = [APP, WEB].map((entry) => ({ ...entry, injectToken: true }));
    const [app] = injected;

    test("runJob: false in its entry ends the injection of another one, and its access", async (t) => {
      const { simulation, set, up } = await stackOf(t, injected);
      succeeded(await up());
      const isInjected = (name: string) => JSON.stringify(policyIn(simulation)).includes(`default/${name}`);

      await set("serviceAccounts", [{ ...app, ...DENY }]);
      failed(await up(), /Job \(access\.default\.app\)/);
      assert.ok(isInjected("web"));
      await set("serviceAccounts", [{ ...app, ...DENY, runJob: false }]);
      succeeded(await up());
      assert.deepEqual([isInjected("app"), isInjected("web")], [true, false]);
      assert.ok(!simulation.existing().kubernetes.some((name) => name.includes("web")));
    });

    test("createServiceAccount: false, left out until runJob is on again, deletes no service account", async (t) => {
      const { simulation, pulumi, set, up } = await stackOf(t, [APP]);
      succeeded(await up());
      const exists = () => simulation.existing().kubernetes.includes("default/app");
      await set("serviceAccounts", [{ ...APP, ...DENY }]);
      failed(await up(), /Job \(access\.default\.app\)/);

      await set("serviceAccounts", [{ ...APP, ...DENY, runJob: false, createServiceAccount: false }]);
      assert.match(
        succeeded(await pulumi("preview")).screen,
        /- +kubernetes:core\/v1:ServiceAccount .* delete/,
      );
      await set("serviceAccounts", [{ ...APP, ...DENY, runJob: false }]);
      succeeded(await up());
      assert.ok(exists());
      await set("serviceAccounts", [{ ...APP, createServiceAccount: false }]);
      succeeded(await up());
      assert.ok(exists());
    });

    test("a state that --continue-on-error has broken is repaired", async (t) => {
      const { simulation, pulumi, set, up, documented } = await stackOf(t, injected);
      succeeded(await up());
      await set("serviceAccounts", [{ ...app, ...DENY }]);
      failed(await up("--continue-on-error"));
      failed(await pulumi("preview"), /snapshot integrity failure/);

      await set("serviceAccounts", [{ ...app, ...DENY, runJob: false }]);
      await documented("A broken state");
      succeeded(await pulumi("preview", "--expect-no-changes"));
      assert.ok(!simulation.existing().kubernetes.some((name) => name.includes("web")));
    });
  });

  test("after a killed update, what it was creating is deleted, and created again", {
    skip: missingJq,
  }, async (t) => {
    const stack = await stackOf(t, [{ ...APP, awsRole: "irsa" }, WEB]);
    const { simulation, pulumi, documented } = stack;
    /** Runs commands of the section for what the killed update was creating. */
    const run = (mark: string, names: Record<string, string> = {}) =>
      documented("Pending operations", names, `bash ${mark}`);
    const deleteObject = (KIND: string, NAME: string) => run("object", { KIND, NAME, NAMESPACE: "default" });
    const { aws: before } = simulation.existing();

    await killWhileCreating(
      t,
      stack,
      [ISSUER, ROLE, SERVICE_ACCOUNT],
      ["acme/", "pulumi-oidc-", "default/web"],
    );
    const [role = assert.fail()] = simulation.existing().aws.filter((name) => !before.includes(name));
    const [id = assert.fail()] = simulation.existing().pulumiCloud;
    assert.deepEqual(listed(await run("clear")), [
      "OidcIssuer::access.oidc-issuer",
      "Role::access.default.app",
      "ServiceAccount::access.default.web",
    ]);
    await deleteObject("serviceaccount", "web");
    simulation.resources[ISSUER]?.delete(id);

    await killWhileCreating(t, stack, [JOB], ["default/app-token-exchange", "default/web-token-exchange"]);
    assert.deepEqual(listed(await run("clear")), ["Job::access.default.app", "Job::access.default.web"]);
    for (const { name } of [APP, WEB]) await deleteObject("job", `${name}-token-exchange`);

    succeeded(await stack.up());
    assert.match(await run("role", { NAME: "app", NAMESPACE: "default", ROLE: role }), RegExp(role));
    const { aws, pulumiCloud } = simulation.existing();
    assert.deepEqual([aws.length, pulumiCloud.length], [before.length + 1, 1]);
    succeeded(await pulumi("up", "--refresh", "--expect-no-changes"));
  });

  test("after rejected allow policies, and after a deleted issuer, `pulumi up --refresh` restores it", async (t) => {
    const { simulation, pulumi, set, up, documented } = await stackOf(t, [APP]);
    const { pulumiCloud } = simulation;
    succeeded(await up());
    const registration = () => pulumiCloud.list()[0]?.registration ?? assert.fail();
    const { name, maxExpirationSeconds } = registration();

    const { update } = pulumiCloud;
    const rejecting = t.mock.method(pulumiCloud, "update", async (...args: Parameters<typeof update>) => {
      if (args[1].policies) throw new Error("400 API error: Bad Request: a policy is invalid");
      return update(...args);
    });
    await set("issuerName", "other");
    await set("maxExpirationSeconds", 7200);
    await set("serviceAccounts", [{ ...APP, ...DENY }]);
    failed(await up(), /400 API error/);
    rejecting.mock.restore();
    await set("issuerName", name);
    await set("maxExpirationSeconds", maxExpirationSeconds);
    await set("serviceAccounts", [APP]);
    assert.doesNotMatch(succeeded(await pulumi("preview")).screen, /OidcIssuer/);
    assert.deepEqual([registration().name, registration().maxExpirationSeconds], ["other", 7200]);
    await documented("400 API error");
    assert.deepEqual(
      [registration().name, registration().maxExpirationSeconds],
      [name, maxExpirationSeconds],
    );

    for (const id of pulumiCloud.existing()) simulation.resources[ISSUER]?.delete(id);
    await set("serviceAccounts", [APP, WEB]);
    failed(await up(), /404 API error/);
    await documented("404 API error");
    assert.equal(registration().policies?.length, 2);
  });

  test("with a renewed certificate and a Pulumi Cloud that compares its thumbprint, the list can be changed again", async (t) => {
    const { simulation, cli, set, up, documented } = await stackOf(t, [APP], {
      updatesCompareThumbprints: true,
    });
    const { pulumiCloud } = simulation;
    succeeded(await up());
    cli.issuerCertificate.renew();

    await set("serviceAccounts", [APP, WEB]);
    failed(await up(), /400 API error: .*Calculated thumbprint/);
    failed(await up("--refresh"), /400 API error: .*Calculated thumbprint/);
    const [id = assert.fail()] = pulumiCloud.existing();
    await documented("A renewed certificate", { ISSUER_ID: id.replace("acme/", "") });
    const { policies, thumbprints } = pulumiCloud.list()[0]?.registration ?? assert.fail();
    assert.equal(policies?.length, 2);
    assert.deepEqual(thumbprints, [cli.issuerCertificate.thumbprint()]);
  });

  test("a ConfigMap that someone deleted is created again", async (t) => {
    const { simulation, up, documented } = await stackOf(t, [{ ...APP, injectToken: true }]);
    succeeded(await up());
    const deployed = simulation.existing();
    simulation.resources[CONFIG_MAP]?.delete("default/app-pulumi-token-exchange");
    succeeded(await up());
    assert.notDeepEqual(simulation.existing(), deployed);
    await documented("MountVolume.SetUp failed");
    assert.deepEqual(sorted(simulation.existing()), sorted(deployed));
  });
});

type RecoveryStack = Awaited<ReturnType<typeof stackOf>>;

/** Creates a stack with these entries, and no resources, whose page's commands reach the emulators. */
async function stackOf(t: TestContext, serviceAccounts: object[], options: Partial<SimulationOptions> = {}) {
  const stack = await emptyStack(t, { serviceAccounts }, options);
  const { simulation, cli, directory } = stack;
  const api = await serveCloudApi(simulation.pulumiCloud);
  const tools = await startServer((request) => answerTool(simulation, request));
  t.after(() => Promise.all([api.close(), tools.close()]));
  const ask = `curl --silent --fail --data "$*" ${tools.origin}`;
  Object.assign(cli.environment, {
    PATH: writePrograms(temporaryDirectory(t), {
      // The state is in a file, but `pulumi api` needs the service.
      pulumi: `[[ $1 != api ]] || export PULUMI_BACKEND_URL=${api.origin}\nexec ${pathOf("pulumi")} "$@"`,
      kubectl: ask,
      aws: ask,
    }),
    PULUMI_SKIP_CONFIRMATIONS: "true",
  });
  return {
    ...stack,
    /**
     * Runs the commands of the page: the block with this mark below a heading, or the one `pulumi up` in the item of a message.
     *
     * @param names replace the page's placeholders.
     * @returns the standard output.
     */
    async documented(message: string, names: Record<string, string> = {}, mark = "bash"): Promise<string> {
      const commands = PAGE.includes(`\n## ${message}\n`)
        ? blockBelow(message, mark)
        : commandInItem(message);
      assert.equal(commands.length, 1, message);
      const script = Object.entries(names).reduce(
        (all, [name, value]) => all.replaceAll(RegExp(`\\b${name}\\b`, "g"), value),
        commands.join(""),
      );
      return succeeded(await cli.run(directory, "bash", "-euo", "pipefail", "-c", script)).stdout;
    },
  };
}

function blockBelow(heading: string, mark: string): string[] {
  const blocks = blocksOf(sectionOf(PAGE, `## ${heading}`));
  return blocks.filter(({ info }) => info === mark).map(({ text }) => text);
}

/** Returns each `pulumi up` of the item that begins with a message. */
function commandInItem(message: string): string[] {
  const item = PAGE.split("\n- ").find((text) => text.startsWith(`**\`${message}\``)) ?? "";
  return [...item.matchAll(/`(pulumi up[^`]*)`/g)].map(([, command = ""]) => command);
}

/** Does to the emulators what `kubectl delete` and `aws iam` do. */
async function answerTool({ resources, aws }: Simulation, request: IncomingMessage): Promise<Reply> {
  const command = await text(request);
  if (command.startsWith("iam list-roles ")) return { status: 200, body: aws.existing() };
  const [, kind, name, namespace] =
    /^delete (job|serviceaccount) (\S+) --namespace (\S+)$/.exec(command) ?? [];
  const [, role = ""] = /^iam delete-role --role-name (\S+)$/.exec(command) ?? [];
  const type = kind ? { job: JOB, serviceaccount: SERVICE_ACCOUNT }[kind] : ROLE;
  const id = kind ? `${namespace}/${name}` : role;
  const resource = resources[type ?? ""];
  if (!resource?.read(id)) return { status: 404 };
  resource.delete(id);
  return { status: 200, body: [] };
}

/** Kills an update as soon as these exist, of which the engine has not heard yet. */
async function killWhileCreating(
  t: TestContext,
  { simulation, cli, directory }: RecoveryStack,
  types: string[],
  names: string[],
): Promise<void> {
  const mocks = types.map((type) => {
    const kind = simulation.resources[type] ?? assert.fail();
    const { create } = kind;
    return t.mock.method(kind, "create", async (...args: Parameters<typeof create>) => {
      await create(...args);
      return new Promise(() => {});
    });
  });
  const file = join(cli.directory, "pid");
  const update = cli.run(directory, "bash", "-c", `echo $$ >${file}; exec pulumi up --skip-preview`);
  const exist = () =>
    names.every((name) =>
      Object.values(simulation.existing())
        .flat()
        .some((it) => it.startsWith(name)),
    );
  const outcome = await Promise.race([update, eventually("it creates them", async () => exist())]);
  assert.equal(outcome, undefined, outcome?.screen);
  // The engine has recorded the beginning of each.
  await sleep(1000);
  process.kill(Number(await readFile(file, "utf8")), "SIGKILL");
  await update;
  for (const { mock } of mocks) mock.restore();
}

/** Returns the types and names of the URNs that a command has printed, sorted. */
function listed(printed: string): string[] {
  return [...printed.matchAll(/^urn:.*[:/](\w+::\S+)$/gm)].map(([, resource = ""]) => resource).sort();
}

function policyIn({ resources, kubernetes }: Simulation): object {
  const id = kubernetes.existing().find((name) => name.startsWith("access-inject-token-"));
  return resources[ADMISSION_POLICY]?.read(id ?? "") ?? assert.fail("there is no admission policy");
}

function sorted(existing: Record<string, string[]>) {
  return Object.values(existing).flat().toSorted();
}
