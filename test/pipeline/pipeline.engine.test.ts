// The pipeline's program on Pulumi's own engine, with the commands of docs/pipeline.md.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { before, describe, type TestContext, test } from "node:test";
import { createGunzip } from "node:zlib";
import { parse, stringify } from "yaml";
import { ISSUER_URL } from "../../pipeline/config";
import type { AuthPolicy } from "../../simulator/emulators/authPolicy";
import { emulatorCertificate, simulationDirectory } from "../../simulator/emulators/certificates";
import { type Reply, startServer } from "../../simulator/emulators/server";
import { answerAdmin } from "../support/cloudApi";
import { failed, resourcesOf, succeeded } from "../support/engineOutcome";
import { missingProgram, writePrograms } from "../support/programs";
import { blocksOf, copyProject, linkPackages, read, sectionOf } from "../support/project";
import { serveProvider } from "../support/provider";
import { missingCli, openCli, pathOf } from "../support/pulumiCli";
import { ACCESS_TOKEN } from "../support/script";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { GITHUB_PROVIDER, type PipelineCloud, SETTINGS, SUBJECT_PREFIX, startPipelineCloud } from "./cloud";

const missingTool = missingCli || missingProgram("jq", "https://jqlang.org/download/");

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
  before(async () => {
    debugProviders = await serveProvider(() => cloud);
  });

  test("in a fresh account, the documented commands set it up, change nothing when rerun, show drift, and remove it", async (t) => {
    const { root, environment, pulumi, drift, documented } = await newPipeline(t);
    await documented("Set it up", "bash");
    const created = cloud.existing();
    assert.equal(created.length, 10);
    const file = join(root, ".github", "pipeline.json");
    const { stacks } = JSON.parse(await readFile(file, "utf8"));
    assert.match(stacks[0].previewRoleArn, /:role\/github-preview-1a2b3c4$/);

    // Another administrator is not a member of the team.
    cloud.calls["pulumiservice:index:getCurrentUser"] = { answer: () => ({ username: "other" }) };
    succeeded(await pulumi("preview", "--expect-no-changes"));
    succeeded(await pulumi("refresh", "--yes"));
    assert.match(await documented("Set it up", "bash"), /Resources:\n +13 unchanged/);
    assert.deepEqual(cloud.existing(), created);

    const resources = await resourcesOf(pulumi);
    assert.doesNotMatch(JSON.stringify(resources), RegExp(ACCESS_TOKEN));

    succeeded(await drift());
    for (const issuer of cloud.issuers.values()) issuer.policies = Array(2).fill(OTHERS);
    failed(await drift(), /~ sub +: "repo:acme\/web:.*" => "repo:acme@11/);

    // All of it waits for the check, also what is created in AWS.
    for (const [key, value] of Object.entries({ pulumiApiUrl: "https://example.com", rolePath: "/ci/" })) {
      succeeded(await pulumi("config", "set", key, value));
    }
    environment.PULUMI_API = "https://example.com";
    const moved = await pulumi("up", "--yes", "--skip-preview");
    failed(moved, /pulumiApiUrl = "https:\/\/example\.com": deployed with/);
    assert.deepEqual(await resourcesOf(pulumi), resources);

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
    await documented("Remove it", "bash", "bash existing");
    assert.deepEqual(cloud.existing(), ["acme/1", GITHUB_PROVIDER]);
    assert.deepEqual(policies(), [others]);
  });

  /** Answers `pulumi api`. */
  async function answerCli(request: IncomingMessage): Promise<Reply> {
    const { pathname } = new URL(request.url ?? "", "https://127.0.0.1");
    const isCompressed = request.headers["content-encoding"] === "gzip";
    const content = await text(isCompressed ? request.pipe(createGunzip()) : request);
    const list = () => [...cloud.issuers].map(([id, registration]) => ({ id, registration }));
    const answer = answerAdmin({ list }, `${request.method} ${pathname}`, content ? JSON.parse(content) : {});
    return answer ?? { status: 404, body: { code: 404, message: "Not Found" } };
  }

  async function newPipeline(t: TestContext) {
    cloud = startPipelineCloud();
    const { origin, close } = await startServer(await emulatorCertificate(), answerCli);
    t.after(close);
    // The SDK prints what a provider throws; the engine reports it too.
    t.mock.method(console, "error", () => {});
    const bin = temporaryDirectory(t);
    const PATH = writePrograms(bin, {
      // The state is in a file, but `pulumi api` needs the service.
      pulumi: `[[ $1 != api ]] || export PULUMI_BACKEND_URL=${origin}\nexec ${pathOf("pulumi")} "$@"`,
      // The page only lists the account's providers with it.
      aws: "",
    });
    // The program does not read the certificate of GitHub's issuer: stack.engine.test.ts has one.
    const preloaded = join(bin, "tls.cjs");
    await writeFile(preloaded, 'require("node:tls").connect = () => { throw new Error("no connection"); };');
    const cli = openCli(debugProviders, {
      PATH,
      SSL_CERT_FILE: join(simulationDirectory(), "ca.pem"),
      NODE_OPTIONS: `${process.env.NODE_OPTIONS} --require=${preloaded}`,
      PULUMI_SKIP_CONFIRMATIONS: "true",
    });
    t.after(cli.remove);

    const leftOut = ["simulator", "accessCheck", "test", ".ci"];
    const root = await copyProject(join(cli.directory, "project"), leftOut);
    await linkPackages(root);
    const pipeline = join(root, "pipeline");
    const file = join(pipeline, "Pulumi.github.yaml");
    const { config: example } = parse(await readFile(file, "utf8"));
    await writeFile(file, stringify({ config: { ...example, ...SETTINGS } }));
    const pulumi = (...args: string[]) => cli.pulumi(pipeline, ...args);
    return {
      root,
      environment: cli.environment,
      run: (program: string, ...args: string[]) => cli.run(pipeline, program, ...args),
      pulumi,
      /** Runs the preview of drift.yml, as GitHub does. */
      async drift() {
        const { steps } = parse(read(".github/workflows/drift.yml")).jobs.drift;
        const { run } = steps.find((step: { run?: string }) => step.run?.includes("pulumi preview"));
        return cli.run(pipeline, "env", "STACK=github", "bash", "-e", "-c", run);
      },
      /** Runs the commands of a section of docs/pipeline.md that are marked so, in one shell, and returns what they print. */
      async documented(section: string, ...marks: string[]): Promise<string> {
        const blocks = blocksOf(sectionOf(read("docs/pipeline.md"), `## ${section}`));
        const commands = blocks.filter(({ info }) => marks.includes(info)).map(({ text }) => text);
        assert.ok(commands.length > 0);
        // A state in files knows only one organization.
        const script = commands.join("").replaceAll(/(?<=^pulumi .*) acme\//gm, " organization/");
        // As the page says.
        const directory = section === "Remove it" ? pipeline : root;
        return succeeded(await cli.run(directory, "bash", "-euo", "pipefail", "-c", script)).screen;
      },
    };
  }
});
