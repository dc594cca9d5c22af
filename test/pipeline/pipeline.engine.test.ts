// The pipeline's program on Pulumi's own engine, with the commands of docs/pipeline.md.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { cp, readFile, writeFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import { before, describe, type TestContext, test } from "node:test";
import { parse, stringify } from "yaml";
import type { AuthPolicy } from "../../simulator/pulumiCloud";
import { type Reply, startServer } from "../../simulator/pulumiCloud";
import { answerAdmin } from "../environment/cloudApi";
import { failed, resourcesOf, succeeded } from "../environment/engineOutcome";
import { serveProvider } from "../environment/provider";
import { missingCli, openCli, pathOf } from "../environment/pulumiCli";
import { missingJq, writePrograms } from "../support/programs";
import { blocksOf, copyProject, linkPackages, ROOT, read, sectionOf } from "../support/project";
import { ACCESS_TOKEN } from "../support/script";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { GITHUB_PROVIDER, type PipelineCloud, startPipelineCloud } from "./cloud";
import { SETTINGS, SUBJECT_PREFIX } from "./pipeline";

const FLEET = join(ROOT, "examples", "fleet", "pipeline");

const missingTool = missingCli || missingJq;

describe("the pipeline on Pulumi's engine", { skip: missingTool }, () => {
  let cloud: PipelineCloud;
  let debugProviders: string;
  before(async () => {
    debugProviders = await serveProvider(() => cloud);
  });

  test("in a fresh account, the documented commands set it up, change nothing when rerun, and remove it", async (t) => {
    const { root, environment, pulumi, documented } = await newPipeline(t);
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

    // All of it waits for the check, also what is created in AWS.
    for (const [key, value] of Object.entries({ pulumiApiUrl: "https://example.com", rolePath: "/ci/" })) {
      succeeded(await pulumi("config", "set", key, value));
    }
    environment.PULUMI_API = "https://example.com";
    const moved = await pulumi("up", "--yes", "--skip-preview");
    failed(moved, /pulumiApiUrl = "https:\/\/example\.com": deployed with/);
    assert.deepEqual(await resourcesOf(pulumi), resources);

    await documented("Remove it", "bash");
    assert.deepEqual(cloud.existing(), [GITHUB_PROVIDER], "other repositories can use it");
  });

  test("if GitHub is already registered, the documented commands create no issuer, and print the policies to add", async (t) => {
    const { pulumi, documented } = await newPipeline(t);
    cloud.stored.set(GITHUB_PROVIDER, {});
    await documented("Set it up", "bash", "bash existing");
    assert.deepEqual([...cloud.issuers], []);
    const { stdout } = succeeded(await pulumi("stack", "output", "policies", "--json"));
    const subjects = JSON.parse(stdout).acme.map(({ rules }: AuthPolicy) => rules.sub);
    assert.deepEqual(subjects, [`${SUBJECT_PREFIX}:pull_request`, `${SUBJECT_PREFIX}:ref:refs/heads/main`]);
    await documented("Remove it", "bash");
    assert.deepEqual(cloud.existing(), [GITHUB_PROVIDER]);
  });

  test("the stacks of examples/fleet/pipeline, one for each AWS account, share one organization, and their outputs are one file", {
    skip: !existsSync(FLEET) && "the component is removed, and the fleet with it",
  }, async (t) => {
    const { root, pulumi, documented } = await newPipeline(t);
    await cp(FLEET, join(root, "pipeline"), { recursive: true });
    await documented("Set it up", "bash");
    const inPulumiCloud = () => cloud.existing().filter((it) => /^(acme|Organization|Team)/.test(it));
    const ofFirst = inPulumiCloud();
    assert.ok(ofFirst.includes("Team acme"));

    /** Goes to another account, which has neither GitHub's provider nor a role yet. */
    const changeAccount = () => {
      const others = [...cloud.stored.keys()].filter((id) => !ofFirst.includes(id));
      for (const id of others) cloud.stored.delete(id);
    };
    changeAccount();
    await documented("Several AWS accounts", "bash");
    succeeded(await pulumi("up", "--yes", "--skip-preview"));
    const file = join(root, ".github", "pipeline.json");
    const ofOneAccount = await readFile(file, "utf8");
    await assert.rejects(documented("Several AWS accounts", "bash accounts"), /github-prod-eu/);
    assert.equal(await readFile(file, "utf8"), ofOneAccount);
    changeAccount();
    succeeded(await pulumi("stack", "init", "github-prod-eu"));
    succeeded(await pulumi("up", "--yes", "--skip-preview"));
    assert.deepEqual(inPulumiCloud(), ofFirst);

    await documented("Several AWS accounts", "bash accounts");
    const { repositoryId, stacks } = JSON.parse(await readFile(file, "utf8"));
    assert.equal(repositoryId, "123456789");
    assert.deepEqual(
      stacks.map(({ stack, directory }: Record<string, string>) => `${stack} in ${directory}`),
      [
        "acme/clusters-prod/prod-eu-1 in prod",
        "acme/clusters-prod/prod-us-1 in prod",
        "acme/clusters-dev/dev-us-1 in dev",
        "acme/clusters-staging/staging-us-1 in staging",
      ],
    );
  });

  /** Answers `pulumi api`. */
  async function answerCli(request: IncomingMessage): Promise<Reply> {
    const { pathname } = new URL(request.url ?? "", "https://127.0.0.1");
    const list = () => [...cloud.issuers].map(([id, registration]) => ({ id, registration }));
    const answer = answerAdmin({ list }, `${request.method} ${pathname}`);
    return answer ?? { status: 404, body: { code: 404, message: "Not Found" } };
  }

  async function newPipeline(t: TestContext) {
    cloud = startPipelineCloud();
    const { origin, close } = await startServer(answerCli);
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
    const cli = openCli(debugProviders, {
      PATH,
      PULUMI_SKIP_CONFIRMATIONS: "true",
    });
    t.after(cli.remove);

    const leftOut = ["simulator", "policy", "test", ".ci"];
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
      pulumi,
      /** Runs the commands of a section of docs/pipeline.md that are marked so, in one shell, and returns what they print. */
      async documented(section: string, ...marks: string[]): Promise<string> {
        const blocks = blocksOf(sectionOf(read("docs/pipeline.md"), `## ${section}`));
        const commands = blocks.filter(({ info }) => marks.includes(info)).map(({ text }) => text);
        assert.ok(commands.length > 0);
        // A state in files knows only one organization.
        const script = commands.join("").replaceAll(/(?<=^ *pulumi .*[ "])acme\//gm, "organization/");
        const directory = section === "Set it up" ? root : pipeline;
        return succeeded(await cli.run(directory, "bash", "-eu", "-c", script)).screen;
      },
    };
  }
});
