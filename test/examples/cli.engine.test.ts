// The real Pulumi CLI in the pods of examples/, with the exchange script as its credential helper, and an emulated Pulumi Cloud
// and Pulumi ESC. In the Jobs of stack.engine.test.ts, the script also wraps the CLI.

import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Reply, startServer } from "../../simulator/pulumiCloud";
import { ISSUER, inputsOf, type Run } from "../core/program";
import { forward } from "../environment/cloudApi";
import { startCluster } from "../environment/engineStack";
import { createdBy, exampleOf, podOf, runExamples } from "../environment/examples";
import { missingCli } from "../environment/pulumiCli";
import type { Simulation } from "../environment/simulation";
import { type Endpoint, respond, startEndpoint } from "../support/endpoint";
import { runPodSpec } from "../support/podSpec";

const SECRET = "correct horse";

/** The CLI renews a token 30 seconds before it expires. */
const TOKEN_SECONDS = "40";
const SECONDS_UNTIL_RENEWAL = 10;

/** Returns the command that stores a login to a backend. */
const storeLogin = (url: string) =>
  `mkdir -p "$PULUMI_HOME" && printf '{"current":"%s","accessTokens":{"%s":"pul-old"}}' "${url}" "${url}" >"$PULUMI_HOME/credentials.json"`;

/** Writes a Pulumi.yaml that selects the foreign backend. */
const SELECT = `printf 'name: foreign\nruntime: nodejs\nbackend:\n  url: %s\n' "$FOREIGN" >Pulumi.yaml`;

const USE_FOREIGN = 'PULUMI_BACKEND_URL="$FOREIGN"';

/** What `pulumi whoami` prints in deployment.yaml. */
const OWNER = /^team-account:team-a$/m;

/** What the CLI prints if the script declines, and it has no other token. */
const DECLINED = /No access token for the backend '.*this credential helper serves only .*\nerror: /;

/** Commands, in which BACKEND and FOREIGN are the URLs of the pod's backend and of another one, and what is printed. */
const COMMANDS: Record<string, [command: string, log: RegExp]> = {
  "is granted a token whatever an earlier login stored": [`${storeLogin("$BACKEND")}; pulumi whoami`, OWNER],
  "gets no token for a backend that a Pulumi.yaml selects": [`${SELECT}; pulumi stack ls`, DECLINED],
  "gets no token for the backend of an earlier login": [`${storeLogin("$FOREIGN")}; pulumi whoami`, DECLINED],
  "continues with the token that a pod has for another backend": [
    `${USE_FOREIGN} PULUMI_ACCESS_TOKEN=pul-own pulumi whoami`,
    /^error: \[404\]/m,
  ],
  "uses a state file as without the script": [
    "pulumi login --local >log; pulumi stack ls --all --json",
    /^\[\]$/,
  ],
  "rejects a login with an ID token": [
    "pulumi login --oidc-token file:///var/run/secrets/pulumi.com/token --oidc-org acme",
    /--oidc-token cannot be used with a credentials helper; set PULUMI_CREDENTIAL_HELPER=none/,
  ],
  "keeps to the backend of a wrapped command": [
    `${SELECT}; "$PULUMI_CREDENTIAL_HELPER" pulumi whoami`,
    OWNER,
  ],
};

describe("the Pulumi CLI in a pod", { skip: missingCli, concurrency: true }, () => {
  let stack: Run;
  let simulation: Simulation;
  let api: Awaited<ReturnType<typeof startServer>>;
  let foreign: Endpoint;
  let isRevoked = false;
  /** The access tokens that the CLI lists stacks with. */
  const used = new Set<string | undefined>();

  before(async () => {
    stack = await runExamples();
    simulation = await startCluster({ issuerUrl: `https://${ISSUER}`, answer: answerOfEsc });
    for (const inputs of inputsOf(stack, "OidcIssuer")) await simulation.pulumiCloud.register(inputs);
    api = await startServer(answer);
    foreign = await startEndpoint(respond(404, ""));
  });
  after(() => Promise.all([simulation, api, foreign].map((server) => server?.close())));

  /** Lists stacks on three pages. The first one takes until the token is renewed, and then that one is revoked. */
  async function answer(request: IncomingMessage): Promise<Reply> {
    const { pulumiCloud } = simulation;
    const { pathname, searchParams } = new URL(request.url ?? "", "https://api");
    if (pathname !== "/api/user/stacks") return forward(request, pulumiCloud);

    used.add(request.headers.authorization);
    const page = Number(searchParams.get("continuationToken") ?? 1);
    if (page === 1) await sleep(SECONDS_UNTIL_RENEWAL * 1000);
    if (page === 3 && !isRevoked) {
      isRevoked = true;
      return { status: 401, body: { code: 401, message: "Unauthorized" } };
    }
    request.url = "/api/user";
    const { status, body } = await forward(request, pulumiCloud);
    if (status !== 200) return { status, body };
    const stacks = [{ orgName: "acme", projectName: "project", stackName: `page-${page}` }];
    return { status, body: { stacks, ...(page < 3 && { continuationToken: String(page + 1) }) } };
  }

  /** Runs the pod of an example with another command, and returns its log. */
  async function run(file: string, command: string[]): Promise<string> {
    const { issuer } = simulation;
    const { namespace, name: serviceAccount } = exampleOf(file).entry;
    const { spec, container } = podOf(file);
    const urls = { BACKEND: api.origin, FOREIGN: foreign.url };
    const env = [...container.env, ...Object.entries(urls).map(([name, value]) => ({ name, value }))];
    const { log } = await runPodSpec({
      spec: { ...spec, containers: [{ ...container, command, env }] } as typeof spec,
      idToken: (audience, expiresIn) => issuer.token({ namespace, serviceAccount }, audience, expiresIn),
      configMap(name) {
        const { data } = createdBy(stack, "ConfigMap", namespace, name);
        return { ...data, apiUrl: api.origin, tokenExpirationSeconds: TOKEN_SECONDS };
      },
    });
    return log.join("\n");
  }

  for (const [name, [command, expected]] of Object.entries(COMMANDS)) {
    test(name, async () => {
      assert.match(await run("deployment.yaml", ["bash", "-c", command]), expected);
      for (const { head } of foreign.requests) assert.match(head, /^authorization: token pul-own\r?$/im);
    });
  }

  test("asks the script again for a token that expires or is revoked, in drift-detection.yaml", async () => {
    const log = await run("drift-detection.yaml", ["pulumi", "stack", "ls", "--all", "--json"]);
    // Only the list is printed: the CLI shows what a helper prints to standard error.
    assert.equal(JSON.parse(log).length, 3);
    assert.equal(used.size, 3);
  });

  test("prints the owner of the token, which it does not store, in token-check.yaml", async () => {
    // With the files that contain an access token.
    const check = '"$@"; ! grep -rlE "pul-[0-9a-f]{8}" "$HOME"';
    const command = ["bash", "-c", check, "bash", ...podOf("token-check.yaml").container.command];
    assert.equal(await run("token-check.yaml", command), "team-account:team-b");
  });

  /** Returns the container's command of esc-application.yaml with a Bash script as the application. */
  function applicationCommand(script: string): string[] {
    const { command } = podOf("esc-application.yaml").container;
    return [...command.slice(0, command.indexOf("--") + 1), "bash", "-c", script];
  }

  test("gives the application of esc-application.yaml its secrets, which the log hides, and no access token", async () => {
    const script = `[[ $DATABASE_PASSWORD == "${SECRET}" ]] && compgen -e
      echo it is $DATABASE_PASSWORD; echo it is $DATABASE_PASSWORD >&2`;
    const log = await run("esc-application.yaml", applicationCommand(script));
    assert.match(log, /^DATABASE_PASSWORD$/m);
    assert.doesNotMatch(log, /PULUMI_ACCESS_TOKEN/);
    assert.deepEqual(log.match(/^it is .*/gm), ["it is [secret]", "it is [secret]"]);
  });
});

/**
 * Returns what Pulumi ESC answers if it has one environment, `acme/shop/prod`, with one variable.
 * https://www.pulumi.com/docs/reference/cloud-rest-api/environments/
 */
function answerOfEsc(endpoint: string): object | undefined {
  const path = "/api/esc/environments/acme/shop/prod/open";
  if (endpoint.split("?")[0] === `POST ${path}`) return { id: "session" };
  if (endpoint !== `GET ${path}/session`) return undefined;
  // As ESC evaluates it: pulumi/pulumi, sdk/go/common/esc/environment.go and value.go.
  const variables = { DATABASE_PASSWORD: { value: SECRET, secret: true, trace: {} } };
  return { properties: { environmentVariables: { value: variables, trace: {} } } };
}
