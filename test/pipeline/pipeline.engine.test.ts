// The pipeline's program on Pulumi's own engine, and the commands of docs/pipeline.md with the real aws and pulumi.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { parse, stringify } from "yaml";
import { ISSUER_URL } from "../../pipeline/idTokens";
import type { AuthPolicy } from "../../simulator/emulators/authPolicy";
import { simulationDirectory } from "../../simulator/emulators/certificates";
import { failed, resourcesOf, succeeded } from "../support/engineOutcome";
import { writePrograms } from "../support/programs";
import { blocksOf, copyProject, linkPackages, read, sectionOf } from "../support/project";
import { serveProvider } from "../support/provider";
import { missingCli, openCli, pathOf } from "../support/pulumiCli";
import { ACCESS_TOKEN } from "../support/script";
import { temporaryDirectory } from "../support/temporaryDirectory";
import {
  ACCOUNT,
  GITHUB_PROVIDER,
  type PipelineCloud,
  SETTINGS,
  SUBJECT_PREFIX,
  startPipelineCloud,
} from "./cloud";

const TOOLS = ["jq --version", "aws --version", "moto_server --help"];
const failing = TOOLS.find((command) => spawnSync("bash", ["-c", command]).status !== 0);
/** Why nothing here can run, and what to do about it; false if all tools are there. */
const missingTool =
  missingCli || (failing && `\`${failing}\` fails: \`bash .ci/run\` installs what is missing`);

/** What a new issuer has: https://www.pulumi.com/docs/administration/concepts/oidc-issuers/ */
const DEFAULT_DENY: AuthPolicy = { decision: "deny", tokenType: "organization", rules: { sub: "" } };
/** What others have. It would change what a terminal shows. */
const OF_OTHERS = "repo:acme/web:\u001b[8m\u202e";
const OTHERS: AuthPolicy = {
  decision: "allow",
  tokenType: "team",
  teamName: "web",
  rules: { sub: OF_OTHERS },
};

describe("the pipeline on Pulumi's engine", { skip: missingTool }, () => {
  let cloud: PipelineCloud;
  let debugProviders: string;
  let moto: { url: string; stop(): void };
  before(async () => {
    debugProviders = await serveProvider(() => cloud);
    moto = await startMoto();
  });
  after(() => moto?.stop());

  test("if a cluster has no access entries, nothing is created, and the printed command adds them", async (t) => {
    const { pulumi, run } = await newPipeline(t);
    succeeded(await pulumi("stack", "init", "github"));
    cloud.clusters.set("us-west-2 my-cluster", "CONFIG_MAP");
    const cluster = "--name my-cluster --role-arn arn:aws:iam::123456789012:role/a --resources-vpc-config {}";
    succeeded(await run("aws", "eks", "create-cluster", ...cluster.split(" ")));
    const screen = failed(await pulumi("up", "--yes", "--skip-preview"), /CONFIG_MAP/);
    assert.deepEqual(cloud.existing(), []);
    const [command = "", ...others] = screen.match(/(?<=\n {2})aws eks .*/g) ?? [];
    assert.deepEqual(others, []);
    succeeded(await run("bash", "-c", command));
  });

  test("in a fresh account, the documented commands set it up, change nothing when rerun, show drift, and remove it", async (t) => {
    const { pulumi, run, documented, root } = await newPipeline(t, {
      ownPermissionsBoundaryArn: `arn:aws:iam::${ACCOUNT}:policy/boundary`,
    });
    await documented("Set it up", "bash");
    const created = cloud.existing();
    assert.equal(created.length, 10);
    assert.match(JSON.stringify(cloud.issuers.get("acme/1")), /"thumbprints":\["[0-9a-f]{64}"\]/);
    const file = join(root, ".github", "pipeline.json");
    const { stacks } = JSON.parse(await readFile(file, "utf8"));
    assert.match(stacks[0].previewRoleArn, /:role\/github-preview-1a2b3c4$/);

    await cloud.rotateCertificate();
    succeeded(await pulumi("preview", "--expect-no-changes"));
    succeeded(await pulumi("refresh", "--yes"));
    assert.match(await documented("Set it up", "bash"), /Resources:\n +13 unchanged/);
    assert.deepEqual(cloud.existing(), created);

    const resources = await resourcesOf(pulumi);
    assert.doesNotMatch(JSON.stringify(resources), RegExp(ACCESS_TOKEN));
    // moto checks the grammar of IAM's documents.
    const name = "github-preview";
    const [role, policy] = resources.filter(({ urn }) => urn.endsWith(`::${name}`)).map((it) => it.inputs);
    const [trust, permissions] = [role?.assumeRolePolicy, policy?.policy].map((it) => JSON.stringify(it));
    const create = ["create-role", "--role-name", name, "--assume-role-policy-document", trust ?? ""];
    succeeded(await run("aws", "iam", ...create));
    const put = ["put-role-policy", "--role-name", name, "--policy-name", "a", "--policy-document"];
    succeeded(await run("aws", "iam", ...put, permissions ?? ""));

    const drift = () => run(...commandOf("drift"));
    succeeded(await drift());
    for (const issuer of cloud.issuers.values()) issuer.policies = Array(2).fill(OTHERS);
    failed(await drift(), /~ sub +: "repo:acme\/web:.*" => "repo:acme@11/);

    for (const [key, value] of Object.entries({ pulumiApiUrl: "https://example.com", rolePath: "/ci/" })) {
      succeeded(await pulumi("config", "set", key, value));
    }
    const moved = await pulumi("up", "--yes", "--skip-preview");
    failed(moved, /pulumiApiUrl = "https:\/\/example\.com": deployed with/);
    assert.deepEqual(await resourcesOf(pulumi), resources);
    failed(
      await run(...commandOf("preview")),
      /^"error: This stack stays .*"\n" +pulumiApiUrl = \\"https:\/\/example\.com\\": .*"\n" +To stay, /,
    );

    await documented("Remove it", "bash");
    assert.deepEqual(cloud.existing(), []);
    await assert.rejects(readFile(file), /ENOENT/);
  });

  test("if GitHub is already registered, the documented commands keep what others have", async (t) => {
    const { run, documented } = await newPipeline(t);
    const issuer = {
      organization: "acme",
      name: "GitHub",
      url: ISSUER_URL,
      policies: [DEFAULT_DENY, OTHERS],
    };
    const policies = () => {
      const found = issuer.policies.map(({ decision, tokenType, teamName, rules }) => {
        return `${decision} ${tokenType} ${teamName ?? "-"} ${rules.sub?.replace(SUBJECT_PREFIX, "")}`;
      });
      return found.sort();
    };
    const others = `allow team web ${OF_OTHERS}`;
    cloud.stored.set(GITHUB_PROVIDER, {});
    cloud.issuers.set("acme/1", issuer);
    for (const _ of ["once", "again"]) {
      await documented("Set it up", "bash", "bash existing");
      assert.deepEqual(policies(), [
        "allow team eks-pulumi-oidc-preview :pull_request",
        "allow team eks-pulumi-oidc-preview :ref:refs/heads/main",
        others,
      ]);
    }

    // Without any other policy, one has to stay, since the API rejects an empty list.
    issuer.policies = issuer.policies.filter(({ teamName }) => teamName !== "web");
    for (const _ of ["once", "again"]) {
      succeeded(await run("bash", "policies.sh", "remove", "acme"));
      assert.deepEqual(policies(), ["deny organization - none"]);
    }

    issuer.policies = [OTHERS];
    const { screen } = succeeded(await run("bash", "policies.sh", "add", "acme"));
    assert.match(screen, /^"allow team token: repo:acme\/web:\\u001b\[8m\\u202e"$/m);
    const unknown = await run("bash", "policies.sh", "add", "globex");
    assert.match(unknown.screen, /No stack of the configuration belongs to globex/);
    assert.equal(unknown.exitCode, 1);

    await documented("Remove it", "bash", "bash existing");
    assert.deepEqual(cloud.existing(), ["acme/1", GITHUB_PROVIDER]);
    assert.deepEqual(policies(), [others]);
  });

  async function newPipeline(t: TestContext, config: object = {}) {
    cloud = await startPipelineCloud(t);
    // The SDK prints what a provider throws; the engine reports it too.
    t.mock.method(console, "error", () => {});
    const bin = temporaryDirectory(t);
    const PATH = writePrograms(bin, {
      // The state is in a file, but `pulumi api` needs the service.
      pulumi: `[[ $1 != api ]] || export PULUMI_BACKEND_URL=${cloud.origin}\nexec ${pathOf("pulumi")} "$@"`,
    });
    // The program reads the certificate of GitHub's issuer.
    const redirect = `tls.connect = (options) => connect({ ...options, host: "127.0.0.1", port: ${cloud.port} });`;
    const preloaded = join(bin, "tls.cjs");
    await writeFile(preloaded, `const tls = require("node:tls");\nconst { connect } = tls;\n${redirect}\n`);
    const cli = openCli(debugProviders, {
      PATH,
      SSL_CERT_FILE: join(simulationDirectory(), "ca.pem"),
      NODE_OPTIONS: `${process.env.NODE_OPTIONS} --require=${preloaded}`,
      PULUMI_SKIP_CONFIRMATIONS: "true",
      AWS_ENDPOINT_URL: moto.url,
      AWS_DEFAULT_REGION: "us-west-2",
      AWS_ACCESS_KEY_ID: "test",
      AWS_SECRET_ACCESS_KEY: "test",
    });
    t.after(cli.remove);

    const leftOut = ["simulator", "accessCheck", "test", ".ci"];
    const root = await copyProject(join(cli.directory, "project"), leftOut);
    await linkPackages(root);
    const pipeline = join(root, "pipeline");
    const file = join(pipeline, "Pulumi.github.yaml");
    const { config: example } = parse(await readFile(file, "utf8"));
    await writeFile(file, stringify({ config: { ...example, ...SETTINGS, ...config } }));
    const pulumi = (...args: string[]) => cli.pulumi(pipeline, ...args);
    return {
      root,
      run: (program: string, ...args: string[]) => cli.run(pipeline, program, ...args),
      pulumi,
      /** Runs the commands of a section of docs/pipeline.md that are marked so, in one shell, and returns what they print. */
      async documented(section: string, ...marks: string[]): Promise<string> {
        const blocks = blocksOf(sectionOf(read("docs/pipeline.md"), `## ${section}`));
        const commands = blocks.filter(({ info }) => marks.includes(info)).map(({ text }) => text);
        assert.ok(commands.length > 0);
        // As the page says.
        const directory = section === "Remove it" ? pipeline : root;
        const shell = ["bash", "-euo", "pipefail", "-c", inStateFile(commands.join(""))] as const;
        return succeeded(await cli.run(directory, ...shell)).screen;
      },
    };
  }
});

/** Returns how GitHub runs the preview of a workflow, for this stack. */
function commandOf(workflow: "drift" | "preview"): [program: string, ...args: string[]] {
  const { steps } = parse(read(`.github/workflows/${workflow}.yml`)).jobs[workflow];
  const { run } = steps.find((step: { run?: string }) => step.run?.includes("pulumi preview"));
  return ["env", "STACK=github", "bash", "-e", "-c", run];
}

/** Renames the organization of the stacks of commands: a state in files knows only one. */
function inStateFile(commands: string): string {
  return commands.replaceAll(/(?<=^pulumi .*) acme\//gm, " organization/");
}

/** Starts moto, an AWS account, on a free port. */
async function startMoto(): Promise<{ url: string; stop(): void }> {
  const port = 20_000 + Math.floor(Math.random() * 10_000);
  const moto = spawn("moto_server", ["-H", "127.0.0.1", "-p", String(port)], { stdio: "ignore" });
  const url = `http://127.0.0.1:${port}`;
  for (let tries = 0; tries < 100; tries++) {
    if (await fetch(`${url}/moto-api/`).catch(() => undefined)) break;
    await sleep(100);
  }
  return { url, stop: () => void moto.kill() };
}
