// The parts of the live check, each with plain values: whom it asks, in which cluster, and what was added that no preview shows.

import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import tls from "node:tls";
import { findAddedKeys, findIssuerAdditions } from "../../accessCheck/additions";
import { answerFindings, notAsked, type Row } from "../../accessCheck/answers";
import { connect, readKubeconfigs } from "../../accessCheck/cluster";
import { deployedComponent, irsaRoleOf, requestOf } from "../../accessCheck/deployedComponent";
import { liveQuestions } from "../../accessCheck/liveQuestions";
import { planFrom, type Step } from "../../accessCheck/plan";
import { readComponents } from "../../accessCheck/readComponents";
import { requestIdTokens } from "../../accessCheck/realServices";
import { type Run, ToolError } from "../../accessCheck/tools";
import { createCertificateAuthority, emulatorCertificate } from "../../simulator/emulators/certificates";
import { hang, startEndpoint } from "../support/endpoint";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";

const ACCESS_TOKEN = `pul-${"0123456789".repeat(4)}`;
const ROLE = "arn:aws:iam::123456789012:role/pulumi-oidc-ci-deployer";
const POLICY = { decision: "allow", tokenType: "team", teamName: "ops", rules: { sub: "x" } };
const PREFIX = "urn:pulumi:prod::project::";
const COMPONENT = `${PREFIX}eks-pulumi-oidc:index:PulumiCloudAccess::access`;
const [AWS, KUBERNETES] = ["aws", "kubernetes"].map((it) => `${PREFIX}pulumi:providers:${it}::${it}`);

/** What a test changes in the deployed component. */
interface Deployed {
  /** The settings of service accounts with team tokens, by `NAMESPACE/NAME`. */
  entries?: Record<string, object>;
  settings?: Record<string, string>;
  issuerId?: string;
  /** Of every role. */
  arn?: string;
  region?: string;
  kubernetes?: Record<string, string>;
  config?: Record<string, string>;
}

/** Returns the component of a preview in which nothing changes. */
function deployed({ config = {}, ...change }: Deployed = {}) {
  const plan = planFrom(stepsOf(change), config);
  const [component = assert.fail()] = readComponents(plan);
  return deployedComponent(component, plan);
}

function stepsOf({
  entries = { "ci/deployer": {} },
  settings,
  issuerId,
  arn,
  ...providers
}: Deployed): Step[] {
  const serviceAccounts = Object.entries(entries).map(([id, entry]) => {
    const [namespace, name] = id.split("/");
    const token = {
      tokenType: "team",
      teamName: "ops",
      tokenAudience: "urn:pulumi:org:acme",
      awsRole: "none",
    };
    return { namespace, name, ...token, ...entry };
  });
  const issuer = { issuerUrl: "https://example.com/id/A", maxExpirationSeconds: 60 };
  const inputs = {
    organization: "acme",
    pulumiApiUrl: "https://api.example/path",
    ...issuer,
    serviceAccounts,
  };
  const { region, kubernetes } = providers;
  return [
    { urn: COMPONENT, inputs: { ...inputs, ...settings } },
    { urn: `${AWS}`, inputs: { ...(region && { region }) } },
    { urn: `${KUBERNETES}`, inputs: kubernetes ?? {} },
    {
      urn: `${PREFIX}pulumiservice:index:OidcIssuer::access.oidc-issuer`,
      inputs: { policies: [POLICY] },
      id: issuerId ?? "acme/1",
    },
    ...serviceAccounts.flatMap(({ namespace, name }) => [
      {
        urn: `${PREFIX}kubernetes:core/v1:ConfigMap::access.${namespace}.${name}.pulumi-token-exchange`,
        inputs: { data: { tokenScope: "team:ops", "exchange-token.sh": "script" } },
        provider: `${KUBERNETES}::id`,
      },
      {
        urn: `${PREFIX}aws:iam/role:Role::access.${namespace}.${name}`,
        inputs: {},
        outputs: { arn: arn ?? ROLE },
        provider: `${AWS}::id`,
      },
    ]),
  ].map(({ urn, ...state }) => {
    const newState = { urn, ...state, ...(urn.includes("::access.") && { parent: COMPONENT }) };
    // What exists decides nothing.
    return { op: "same", urn, newState, oldState: { ...newState, inputs: { organization: "mallory" } } };
  });
}

describe("a deployed component", () => {
  const IRSA = { "ci/deployer": { awsRole: "irsa" } };
  const restore = setVariables({ AWS_REGION: "", AWS_DEFAULT_REGION: "", AWS_ENDPOINT_URL_STS: "" });
  after(restore);

  test("is asked with what its program says, and with the IDs of the state", () => {
    const { component, organization, issuerId, apiUrl } = deployed({ entries: IRSA, region: "eu-north-1" });
    assert.deepEqual([organization, issuerId, apiUrl], ["acme", "1", "https://api.example"]);
    const [account = assert.fail()] = component.after.accounts;
    assert.equal(irsaRoleOf(account), ROLE);
    assert.deepEqual(requestOf(account), { tokenScope: "team:ops" });
  });

  test("is asked in the region of its provider, then of the stack, then of the environment", (t) => {
    const config = { "aws:region": "us-west-2" };
    t.after(setVariables({ AWS_DEFAULT_REGION: "eu-west-2" }));
    assert.equal(deployed({ entries: IRSA, region: "eu-north-1", config }).aws?.region, "eu-north-1");
    assert.equal(deployed({ entries: IRSA, config }).aws?.region, "us-west-2");
    assert.equal(deployed({ entries: IRSA }).aws?.region, "eu-west-2");
    process.env.AWS_REGION = "eu-west-1";
    assert.equal(deployed({ entries: IRSA }).aws?.region, "eu-west-1");
  });

  test("needs no region without IRSA", () => {
    assert.equal(deployed({ entries: { "ci/deployer": { awsRole: "pod-identity" } } }).aws, undefined);
  });

  test("is asked at the STS endpoint of the environment, if it has TLS", (t) => {
    const url = "https://vpce-1.sts.us-west-2.vpce.amazonaws.com";
    t.after(setVariables({ AWS_ENDPOINT_URL_STS: url }));
    assert.equal(deployed({ entries: IRSA, region: "us-west-2" }).aws?.stsUrl, url);
    process.env.AWS_ENDPOINT_URL_STS = "http://127.0.0.1:9";
    assert.throws(() => deployed({ entries: IRSA, region: "us-west-2" }), {
      message:
        "AWS_ENDPOINT_URL_STS is http://127.0.0.1:9. Set it to an https URL: ID tokens are sent there.",
    });
  });

  for (const [what, change, message] of [
    ["no region", {}, "The region is not set. To set it: pulumi config set aws:region REGION --stack prod"],
    [
      "a path as its region",
      { region: "x.y/" },
      'The region is "x.y/", which is not the name of an AWS region.',
    ],
    [
      "a path as its ID",
      { issuerId: "acme/../1" },
      "The ID of the OIDC issuer in the state is invalid: acme/../1",
    ],
    ["a URL as its role", { arn: `https://x/${ROLE}` }, "The ARN of an IAM role in the state is invalid: "],
    [
      "a user as its role",
      { arn: ROLE.replace("role", "user") },
      "The ARN of an IAM role in the state is invalid",
    ],
    [
      "a secret",
      { settings: { organization: "[secret]" } },
      "The setting organization is secret, or not known.",
    ],
  ] satisfies [string, Deployed, string][]) {
    test(`is not asked with ${what}`, () => {
      const isExpected = (error: Error) => error.message.startsWith(message);
      assert.throws(() => deployed({ entries: IRSA, ...change }), isExpected);
    });
  }
});

describe("the questions", () => {
  /** Returns `ACCOUNT: CALLER` of the questions to a service, with `!` behind those that are to be denied. */
  function asked(entries: Record<string, object>, service = "Pulumi Cloud", allPairs = false): string[] {
    const { component } = deployed({ entries, region: "us-west-2" });
    return liveQuestions(component.after, allPairs)
      .filter((question) => question.service === service)
      .map(({ account, caller, intended }) => `${account.id}: ${caller.label}${intended ? "" : "!"}`);
  }
  const INVALID = "itself with an invalid signature";

  test("are asked as itself, with a defect, as default, and as the next service account or all others", () => {
    const three = { "a/x": { teamName: "x" }, "b/y": { teamName: "y" }, "c/z": { teamName: "z" } };
    const first = ["a/x: itself", `a/x: ${INVALID}!`, "a/x: a/default!", "a/x: b/y!"];
    assert.deepEqual(asked(three).slice(0, 4), first);
    assert.deepEqual(asked(three, "Pulumi Cloud", true).slice(0, 5), [...first, "a/x: c/z!"]);
    // It is both default and the next one, and asks once.
    const withDefault = { "a/x": { teamName: "a" }, "a/default": {} };
    assert.deepEqual(asked(withDefault).slice(2, 4), ["a/x: a/default!", "a/default: itself"]);
  });

  test("expect that those who share a token are granted it", () => {
    assert.deepEqual(asked({ "a/x": {}, "b/y": {} }).slice(3, 4), ["a/x: b/y"]);
  });

  test("include another audience only where the allow policy requires one", () => {
    const other = "a/x: itself with another audience!";
    assert.equal(asked({ "a/x": {} }).includes(other), false);
    assert.ok(asked({ "a/x": { audienceRule: true } }).includes(other));
  });

  test("are about a role only with IRSA, which no other service account may assume", () => {
    assert.deepEqual(asked({ "a/x": { awsRole: "irsa" }, "a/y": { awsRole: "pod-identity" } }, "IAM role"), [
      "a/x: itself",
      "a/x: itself with another audience!",
      `a/x: ${INVALID}!`,
      "a/x: a/default!",
      "a/x: a/y!",
    ]);
  });

  test("are not asked where a rule is on a pod, which no ID token of this check is of", () => {
    const onPod = { policyRules: { '"kubernetes.io".pod.name': "deploy-*" } };
    assert.deepEqual(asked({ "a/x": onPod, "b/y": {} }), [
      `a/x: ${INVALID}!`,
      "a/x: a/default!",
      "a/x: b/y",
      "b/y: itself",
      `b/y: ${INVALID}!`,
      "b/y: b/default!",
    ]);
  });

  test("have an audience that the other service does not accept, and of another service account its own", () => {
    const entries = {
      "a/x": { awsRole: "irsa", audienceRule: true, tokenAudience: "x" },
      "a/y": { tokenAudience: "y" },
    };
    const { component } = deployed({ entries, region: "us-west-2" });
    const audiences = liveQuestions(component.after, false).map((it) => `${it.caller.label}: ${it.audience}`);
    assert.deepEqual(audiences.slice(0, 4), [
      "itself: x",
      "itself: sts.amazonaws.com",
      "itself with another audience: x-2",
      "itself with another audience: x",
    ]);
    assert.deepEqual(audiences.slice(6, 9), ["a/default: x", "a/default: sts.amazonaws.com", "a/y: y"]);
  });
});

test("reports an answer that is not intended, with what to check", () => {
  const { component } = deployed({ entries: { "a/x": { awsRole: "irsa" } }, region: "us-west-2" });
  const rows = liveQuestions(component.after, false).map((question): Row => {
    // Only as itself, each service answers what it should not.
    return { ...question, allowed: question.caller.label !== "itself" && question.intended, reason: "WHY" };
  });
  const [token, role, ...others] = answerFindings(rows);
  assert.deepEqual([token?.about, role?.about, others], ["token", "role", []]);
  assert.match(
    token?.text ?? "",
    /^As itself: denied by Pulumi Cloud \(WHY\)\. .* policyRules, audienceRule, and/,
  );
  assert.match(
    role?.text ?? "",
    /^As itself: denied by AWS STS \(WHY\)\. .* audience sts\.amazonaws\.com\.$/,
  );
});

test("requests no token of a service account that someone else creates later, and says so", async () => {
  const entries = { "a/later": { createServiceAccount: false }, "a/x": {} };
  const { component } = deployed({ entries });
  const url = "https://x";
  const token = ["{}", JSON.stringify({ iss: url }), "s"].map((it) => Buffer.from(it).toString("base64url"));
  const missing = new ToolError("Failed", "Error from server (NotFound): serviceaccounts not found");
  let failure = missing;
  const questions = liveQuestions(component.after, false);
  const askWithout = (absent: string) =>
    requestIdTokens({ issuerUrl: url, component }, questions, async (command) => {
      if (command.includes(absent)) throw failure;
      return token.join(".");
    });
  const left = (await askWithout("later")).filter(({ idToken }) => idToken === undefined);
  const absent = left.map(({ question }) => question);
  assert.deepEqual(
    absent,
    questions.filter(({ caller }) => caller.name === "later"),
  );
  assert.deepEqual(notAsked(component.after.accounts, absent), [
    "Not asked as a/later: createServiceAccount is false, and it does not exist yet.",
  ]);
  // One that the component creates must exist.
  await assert.rejects(askWithout("x"), missing);
  failure = new ToolError("Failed", "Error from server (Forbidden)");
  await assert.rejects(askWithout("later"), failure);
});

describe("the cluster of a component", () => {
  const directory = temporaryDirectory({ after });

  /** Returns the options of kubectl for a component, after which the content of its kubeconfig follows. */
  async function optionsFor(kubernetes: Record<string, string>, named: string[] = []): Promise<string[]> {
    let [options, content]: [string[], string] = [[], ""];
    const run: Run = async (_tool, args) => {
      options = args;
      const file = args.find((arg) => arg.startsWith("--kubeconfig="))?.slice("--kubeconfig=".length) ?? "";
      content = await readFile(file, "utf8").catch(() => `no ${file}`);
      return "";
    };
    const kubeconfigs = readKubeconfigs(named, ["access", "green"]);
    const kubectl = await connect(deployed({ kubernetes }), kubeconfigs, directory, directory, run);
    // Another component is connected, too.
    const other = deployed({ kubernetes: { kubeconfig: "of another cluster" } });
    await connect(other, new Map(), directory, directory, run);
    await kubectl(["get", "configmap"], ["--namespace=ci"], ["settings"]);
    return [...options, content];
  }

  test("is that of its own kubeconfig, also beside a component in another cluster", async () => {
    const options = await optionsFor({ kubeconfig: "of its cluster", context: "b", cluster: "c" });
    assert.match(
      options.join(" "),
      /^get configmap --namespace=ci --kubeconfig=\S+ --context=b --cluster=c --cache-dir=\S+ --request-timeout=20s -- settings of its cluster$/,
    );
  });

  test("is that of the file that the provider names", async () => {
    const file = join(directory, "file");
    await writeFile(file, "of a file");
    for (const kubeconfig of [file, "file"]) {
      assert.equal((await optionsFor({ kubeconfig })).at(-1), "of a file");
    }
    assert.equal((await optionsFor({ kubeconfig: "~/absent" })).at(-1), "~/absent");
  });

  for (const [what, kubernetes] of [
    ["secret", { kubeconfig: "[secret]" }],
    ["absent", {}],
    ["empty", { kubeconfig: "" }],
  ] as const) {
    test(`is the one that the user names, for a kubeconfig that is ${what}`, async () => {
      for (const [named, file] of [
        [["green=/b", "/a"], "/a"],
        [["/a", "access=/c"], "/c"],
        [["/b=c/file"], "/b=c/file"],
      ] as const) {
        assert.equal((await optionsFor(kubernetes, [...named])).at(-1), `no ${file}`);
      }
      await assert.rejects(optionsFor(kubernetes, ["green=/b"]), {
        message:
          'The kubeconfig of PulumiCloudAccess "access" is secret or absent. No token was sent. To name it: --kubeconfig access=FILE',
      });
    });
  }

  test("is never that of an option that names no component or no file", () => {
    for (const option of ["acces=a", "access=", ""]) {
      assert.throws(() => readKubeconfigs(["a", option], ["access", "green"]), {
        message: `--kubeconfig is "${option}". It must be FILE or COMPONENT=FILE, with a component of the program: access, green. No token was sent.`,
      });
    }
  });
});

describe("what was added", () => {
  const own = { id: "1", url: "https://example.com/id/A", maxExpiration: 60 };

  /** Returns what is found in these registrations of an issuer with one policy. */
  function additionsIn(oidcIssuers: object[], policies: object[] = [POLICY], issuerUrl = own.url) {
    const run: Run = async (_tool, [, path]) =>
      JSON.stringify(path === "/api/orgs/acme/oidc/issuers" ? { oidcIssuers } : { policies });
    return findIssuerAdditions(deployed({ settings: { issuerUrl } }), run, new AbortController().signal);
  }

  const OTHER = "https://x/\u202e";
  for (const [what, change, ...found] of [
    ["nothing", { jwks: {}, thumbprints: [] }],
    ["keys", { jwks: { keys: [{}] } }, "own keys in jwks. Their owner can act as every service account."],
    ["a lifetime", { maxExpiration: 90 }, "maxExpiration is 90. The program says 60."],
    ["no lifetime", { maxExpiration: null }, "maxExpiration is null. The program says 60."],
    ["a URL", { url: OTHER, issuer: own.url }, `url is https://x/\\u{202e}. The program says ${own.url}.`],
    ["an issuer", { issuer: ACCESS_TOKEN }, `issuer is [redacted]. The program says ${own.url}.`],
  ] satisfies [string, object, string?][]) {
    test(`is found in the registration: ${what}`, async () => {
      const { found: actual, notes } = await additionsIn([{ ...own, ...change }]);
      const sentences = actual.map((it) => it.replace(/^The issuer(?:'s| has its) /, ""));
      assert.deepEqual([sentences, notes], [found, []]);
    });
  }

  test("is found among the policies, and not what Pulumi Cloud adds to each", async () => {
    const served = { ...POLICY, id: "1", authorizedPermissions: [], userLogin: "", runnerID: null };
    assert.deepEqual((await additionsIn([own], [served])).found, []);
    // The provider does not read a role.
    const added = { decision: "allow", userLogin: ACCESS_TOKEN };
    assert.deepEqual((await additionsIn([own], [{ ...served, roleID: "admin" }, added])).found, [
      'A policy is not the program\'s: { "decision": "allow", "tokenType": "team", "teamName": "ops", "rules": { "sub": "x" }, "roleID": "admin" }',
      'A policy is not the program\'s: { "decision": "allow", "userLogin": "[redacted]" }',
    ]);
  });

  test("is another registration of the issuer's URL, however it is spelled, or that its own is gone", async () => {
    const second = "The issuer URL is registered a second time, with the ID b.";
    for (const path of [":443//id/A/", "./id/%41"]) {
      const url = `https://EXAMPLE.com${path}`;
      assert.deepEqual((await additionsIn([own, { id: "b", url }])).found, [second], url);
    }
    const gone = "The issuer with the ID 1 is not registered.";
    const elsewhere = { id: "b", url: "https://other", issuer: own.url };
    assert.deepEqual((await additionsIn([elsewhere])).found, [second, gone]);
    assert.deepEqual((await additionsIn([own, { id: "b", url: "https://example.com/id/B" }])).found, []);
  });

  const registered = (url: string, ...thumbprints: string[]) =>
    additionsIn([{ ...own, url, thumbprints }], [POLICY], url);

  test("is a thumbprint that is not that of the issuer's certificate, although the state has it", async (t) => {
    const certificate = await emulatorCertificate();
    const { url, close } = await startEndpoint(hang(), certificate);
    t.after(close);
    const actual = new X509Certificate(certificate.cert).fingerprint256.replaceAll(":", "");
    assert.deepEqual(await registered(url, actual), { found: [], notes: [] });
    assert.deepEqual(await registered(url, actual.toLowerCase(), "0B"), {
      found: [
        `The issuer has the thumbprint 0B, but its TLS certificate has ${actual.toLowerCase()}. If the certificate was renewed, register the new one, and then run pulumi refresh: pulumi api /api/orgs/acme/oidc/issuers/1/regenerate-thumbprints --method POST`,
      ],
      notes: [],
    });
  });

  test("is no thumbprint of a certificate that cannot be read or verified, which is a note", async (t) => {
    const authority = await createCertificateAuthority();
    const { url, close } = await startEndpoint(hang(), await authority.issue({ hosts: ["127.0.0.1"] }));
    t.after(close);
    t.after(setVariables({ NODE_TLS_REJECT_UNAUTHORIZED: "0" }));
    for (const [issuerUrl, reason] of [
      ["https://127.0.0.1:9", /: connect ECONNREFUSED/],
      [url, /: unable to verify the first certificate$/],
    ] as const) {
      const { found, notes } = await registered(issuerUrl, "0B");
      assert.deepEqual(found, []);
      assert.match(notes.join(), /^The issuer's TLS certificate could not be read, /);
      assert.match(notes.join(), reason);
    }
  });

  test("is no thumbprint of a certificate of another authority than those of Node.js", async (t) => {
    const connections: tls.ConnectionOptions[] = [];
    t.mock.method(tls, "connect", (options: tls.ConnectionOptions) => {
      connections.push(options);
      throw new Error("not connected");
    });
    await registered("https://issuer.example/id/A", "0B");
    const host = "issuer.example";
    const ca = [...tls.rootCertificates];
    assert.deepEqual(connections, [{ host, port: 443, servername: host, rejectUnauthorized: true, ca }]);
  });

  test("is a key of a ConfigMap, which becomes a file", async () => {
    const data = {
      tokenScope: "",
      "exchange-token.sh": "",
      constructor: "",
      "4dabf18193072939515e22adb298388d": "",
    };
    const configMap = JSON.stringify({ data, binaryData: { "\u202e": "" } });
    const kubectl = async (_command: string[], options: string[], [name]: string[]) =>
      options.includes("--namespace=a") && name === "x-pulumi-token-exchange" ? configMap : "";
    const { component } = deployed({ entries: { "a/x": {}, "b/x": {} } });
    const found = await findAddedKeys(component.after, kubectl);
    assert.deepEqual(
      found.map((it) => it.replace(/^The ConfigMap of a\/x has the key (.*), which becomes a file\.$/, "$1")),
      ["constructor", "4dabf18193072939515e22adb298388d", "\\u{202e}"],
    );
  });
});
