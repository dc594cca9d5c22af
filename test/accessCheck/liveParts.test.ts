// The parts of the live check, each with plain values: whom it asks, in which cluster, and what was added that no preview shows.

import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import tls from "node:tls";
import { findIssuerAdditions } from "../../accessCheck/additions";
import { connect, readKubeconfigs } from "../../accessCheck/cluster";
import { readComponents } from "../../accessCheck/components";
import { deployedComponent } from "../../accessCheck/deployedComponent";
import { planFrom } from "../../accessCheck/plan";
import { liveQuestions } from "../../accessCheck/questions";
import type { Run } from "../../accessCheck/tools";
import { emulatorCertificate } from "../../simulator/emulators/certificates";
import { hang, startEndpoint } from "../support/endpoint";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";
import { add, Draft, deployedPlan, ISSUER_URL, set, setDeployed } from "./draft";
import { optionOf } from "./liveTools";

const ACCESS_TOKEN = `pul-${"0123456789".repeat(4)}`;
const ROLE = "arn:aws:iam::123456789012:role/pulumi-oidc-x";

const COMPONENT = "PulumiCloudAccess access";
const OIDC_ISSUER = "OidcIssuer access.oidc-issuer";

/** That of a deployed component with all features. */
let steps: Draft["steps"];

before(async () => {
  ({ steps } = await deployedPlan());
});

/** Returns the component of a changed preview. */
function deployed(
  change?: (draft: Draft) => unknown,
  config: Record<string, string> = { "aws:region": "a" },
) {
  const draft = new Draft(steps);
  change?.(draft);
  const plan = planFrom(draft.steps, config);
  const [component = assert.fail()] = readComponents(plan);
  return deployedComponent(component, plan);
}

/** Changes what the state says about a resource. */
function setState(draft: Draft, resource: string, state: object): void {
  Object.assign(draft.step(resource).oldState ?? assert.fail(), state);
}

describe("a deployed component", () => {
  after(setVariables({ AWS_REGION: "", AWS_DEFAULT_REGION: "", AWS_ENDPOINT_URL_STS: "" }));

  test("is asked with what its program says, whatever exists", () => {
    const { organization, issuerId, apiUrl } = deployed((draft) => {
      draft.edit(setDeployed(COMPONENT, ["organization"], "mallory"));
      draft.edit(set(COMPONENT, ["pulumiApiUrl"], "https://api.example/path"));
      setState(draft, OIDC_ISSUER, { id: "acme/1" });
    });
    assert.deepEqual([organization, issuerId, apiUrl], ["acme", "1", "https://api.example"]);
  });

  test("is asked in the region of its provider, then of the stack, then of the environment", (t) => {
    const regionOf = (...args: Parameters<typeof deployed>) => deployed(...args).aws?.region;
    const config = { "aws:region": "us-west-2" };
    const withProvider = (draft: Draft) => {
      draft.edit(add("pulumi:providers:aws", "aws", { region: "eu-north-1" }));
      const provider = `${draft.steps.at(-1)?.urn}::id`;
      Object.assign(draft.step("Role access.ci.deployer").newState ?? {}, { provider });
    };
    const withoutIrsa = set(COMPONENT, ["serviceAccounts", 0, "awsRole"], "none");
    assert.equal(regionOf(withProvider, config), "eu-north-1");
    assert.equal(regionOf(undefined, config), "us-west-2");
    assert.equal(regionOf(withoutIrsa, {}), undefined);
    assert.throws(() => regionOf(undefined, {}), /not set\. To set it: pulumi config set aws:region REGION/);
    assert.throws(() => regionOf(undefined, { "aws:region": "x.y/" }), /"x\.y\/", which is not the name of/);
    t.after(setVariables({ AWS_DEFAULT_REGION: "eu-west-2" }));
    assert.equal(regionOf(undefined, {}), "eu-west-2");
    process.env.AWS_REGION = "eu-west-1";
    assert.equal(regionOf(undefined, {}), "eu-west-1");
  });

  test("is asked at the STS endpoint of the environment, if it has TLS", (t) => {
    const url = "https://vpce-1.sts.us-west-2.vpce.amazonaws.com";
    t.after(setVariables({ AWS_ENDPOINT_URL_STS: url }));
    assert.equal(deployed().aws?.stsUrl, url);
    process.env.AWS_ENDPOINT_URL_STS = "http://127.0.0.1:9";
    const message =
      "AWS_ENDPOINT_URL_STS is http://127.0.0.1:9. Set it to an https URL: ID tokens are sent there.";
    assert.throws(() => deployed(), { message });
  });

  const arn = (value: string) => (draft: Draft) =>
    setState(draft, "Role access.ci.deployer", { outputs: { arn: value } });
  for (const [what, change, message] of [
    ["a URL as its role", arn(`https://x/${ROLE}`), /^Error: The ARN of an IAM role in the state is invalid/],
    ["a user as its role", arn(ROLE.replace("role", "user")), /^Error: The ARN of an IAM role in the state/],
    ["a path as its ID", (draft) => setState(draft, OIDC_ISSUER, { id: "acme/../1" }), /: acme\/\.\.\/1\./],
    ["a secret", set(COMPONENT, ["organization"], "[secret]"), /^Error: The setting organization is secret/],
  ] satisfies [string, (draft: Draft) => unknown, RegExp][]) {
    test(`is not asked with ${what}`, () => {
      assert.throws(() => deployed(change), message);
    });
  }
});

describe("the questions", () => {
  /**
   * Returns `CALLER AUDIENCE` of the questions about a/x, with `!` behind those that are to be denied.
   *
   * @param entries settings of service accounts with team tokens, by `NAMESPACE/NAME`.
   */
  function asked(entries: Record<string, object>, service = "Pulumi Cloud", allPairs = false): string[] {
    const { after: view } = deployed().component;
    const [first = assert.fail()] = view.accounts;
    const accounts = Object.entries(entries).map(([id, entry]) => {
      const [namespace = "", name = ""] = id.split("/");
      const token = { tokenType: "team", teamName: "ops", tokenAudience: "audience" };
      return { ...first, id, namespace, name, settings: { namespace, name, ...token, ...entry } };
    });
    const role = view.resources.get("aws:iam/role:Role ci.deployer") ?? assert.fail();
    const resources = new Map(accounts.map((it) => [`aws:iam/role:Role ${it.namespace}.${it.name}`, role]));
    return liveQuestions({ ...view, accounts, resources }, allPairs)
      .filter(({ account, service: of }) => account.id === "a/x" && of === service)
      .map(({ caller, audience, intended }) => `${caller.label} ${audience}${intended ? "" : "!"}`);
  }

  const INVALID = "itself with an invalid signature audience!";

  test("are asked as itself, with a defect, as default, and as the next service account or all others", () => {
    const entries = { "a/x": {}, "b/y": { teamName: "y" }, "c/z": { tokenAudience: "z" } };
    const first = ["itself audience", INVALID, "a/default audience!", "b/y audience!"];
    assert.deepEqual(asked(entries), first);
    // It shares the token, and asks with its own audience.
    assert.deepEqual(asked(entries, "Pulumi Cloud", true), [...first, "c/z z"]);
    // It is both default and the next one, and asks once.
    assert.deepEqual(asked({ "a/x": {}, "a/default": {} }).slice(2), ["a/default audience"]);
  });

  test("include another audience only where the allow policy requires one", () => {
    assert.deepEqual(asked({ "a/x": { audienceRule: true } }), [
      "itself audience",
      "itself with another audience audience-2!",
      INVALID,
      "a/default audience!",
    ]);
  });

  test("are about a role only with IRSA, which no other service account may assume", () => {
    assert.deepEqual(asked({ "a/x": { awsRole: "irsa" }, "a/y": { awsRole: "irsa" } }, "IAM role"), [
      "itself sts.amazonaws.com",
      // What Pulumi Cloud receives.
      "itself with another audience audience!",
      "itself with an invalid signature sts.amazonaws.com!",
      "a/default sts.amazonaws.com!",
      "a/y sts.amazonaws.com!",
    ]);
    assert.deepEqual(asked({ "a/x": { awsRole: "pod-identity" } }, "IAM role"), []);
  });

  test("are not asked where a rule is on a pod, which no ID token of this check is of", () => {
    const onPod = { policyRules: { '"kubernetes.io".pod.name': "deploy-*" } };
    const others = [INVALID, "a/default audience!"];
    assert.deepEqual(asked({ "a/x": onPod, "b/y": {} }), [...others, "b/y audience"]);
    assert.deepEqual(asked({ "a/x": {}, "b/y": onPod }), ["itself audience", ...others]);
  });
});

describe("the cluster of a component", () => {
  const directory = temporaryDirectory({ after });

  /** Returns the options of kubectl for a component, after which the content of its kubeconfig follows. */
  async function optionsFor(kubernetes: object, named: string[] = []): Promise<string[]> {
    let [options, content]: [string[], string] = [[], ""];
    const run: Run = async (_tool, args) => {
      options = args;
      const file = optionOf({ args }, "kubeconfig");
      content = await readFile(file, "utf8").catch(() => `no ${file}`);
      return "";
    };
    const component = deployed((draft) => {
      Object.assign(draft.step("kubernetes cluster").newState ?? assert.fail(), { inputs: kubernetes });
    });
    const kubeconfigs = readKubeconfigs(named, ["access", "green"]);
    const kubectl = await connect(component, kubeconfigs, directory, directory, run);
    await kubectl(["get", "configmap"], ["--namespace=ci"], ["settings"]);
    return [...options, content];
  }

  test("is that of its provider's kubeconfig, or of the file that the provider names", async () => {
    const file = join(directory, "file");
    await writeFile(file, "CONTENT");
    for (const [kubeconfig, content] of [
      ["CONTENT", "CONTENT"],
      [file, "CONTENT"],
      ["file", "CONTENT"],
      ["~/absent", "~/absent"],
    ] as const) {
      assert.match(
        (await optionsFor({ kubeconfig, context: "b", cluster: "c" })).join(" "),
        RegExp(
          `^get configmap --namespace=ci --kubeconfig=\\S+ --context=b --cluster=c .* -- settings ${content}$`,
        ),
      );
    }
  });

  test("is the one that the user names, for a kubeconfig that is secret or absent", async () => {
    const secret = { kubeconfig: "[secret]" };
    for (const [named, file] of [
      [["green=/b", "/a"], "/a"],
      [["/a", "access=/c"], "/c"],
      [["/b=c/file"], "/b=c/file"],
    ] satisfies [string[], string][]) {
      assert.equal((await optionsFor(secret, named)).at(-1), `no ${file}`);
    }
    const message =
      'The kubeconfig of PulumiCloudAccess "access" is secret or absent. No token was sent. To name it: --kubeconfig access=FILE';
    for (const kubernetes of [secret, {}, { kubeconfig: "" }]) {
      await assert.rejects(optionsFor(kubernetes, ["green=/b"]), { message });
    }
  });

  test("is never that of an option that names no component or no file", () => {
    for (const option of ["acces=a", "access=", ""]) {
      assert.throws(() => readKubeconfigs(["a", option], ["access", "green"]), {
        message: `--kubeconfig is "${option}". It must be FILE or COMPONENT=FILE, with a component of the program: access, green. No token was sent.`,
      });
    }
  });
});

describe("what was added", () => {
  const own = { id: "1", url: `https://${ISSUER_URL}`, maxExpiration: 7200 };
  const programs = () => new Draft(steps).get(OIDC_ISSUER, "policies") as object[];

  /** Returns what is found in these registrations of an issuer. */
  function additionsIn(oidcIssuers: object[], policies = programs(), issuerUrl = own.url) {
    const run: Run = async (_tool, [, path]) =>
      JSON.stringify(path === "/api/orgs/acme/oidc/issuers" ? { oidcIssuers } : { policies });
    const component = {
      ...deployed((draft) => draft.edit(set(COMPONENT, ["issuerUrl"], issuerUrl))),
      issuerId: "1",
    };
    return findIssuerAdditions(component, run, new AbortController().signal);
  }

  test("is found in the registration: keys, no limit, another issuer, and another URL", async () => {
    const changed = {
      jwks: { keys: [{}] },
      maxExpiration: null,
      issuer: ACCESS_TOKEN,
      url: "https://x/\u202e",
    };
    assert.deepEqual((await additionsIn([{ ...own, ...changed }])).found, [
      "The issuer has its own keys in jwks. Their owner can act as every service account.",
      "The issuer's maxExpiration is null. The program says 7200.",
      `The issuer's issuer is [redacted]. The program says ${own.url}.`,
      `The issuer's url is https://x/\\u{202e}. The program says ${own.url}.`,
    ]);
  });

  test("is found among the policies, and not what Pulumi Cloud adds to each", async () => {
    const served = programs().map((it) => ({ id: "1", authorizedPermissions: [], roleID: "", ...it }));
    assert.deepEqual((await additionsIn([{ ...own, jwks: {}, thumbprints: [] }], served)).found, []);
    // The provider does not read a role.
    const [first, ...others] = served;
    const added = { decision: "allow", userLogin: ACCESS_TOKEN };
    const { found } = await additionsIn([own], [{ ...first, roleID: "admin" }, ...others, added]);
    assert.match(
      found[0] ?? "",
      /^A policy is not the program's: \{ "roleID": "admin", "decision": "allow", /,
    );
    assert.deepEqual(found.slice(1), [
      'A policy is not the program\'s: { "decision": "allow", "userLogin": "[redacted]" }',
    ]);
  });

  test("is another registration of the issuer's URL, however it is spelled, or that its own is gone", async () => {
    const second = "The issuer URL is registered a second time, with the ID b.";
    const url = own.url.replace("com/", "COM.:443//");
    assert.deepEqual((await additionsIn([own, { id: "b", url }])).found, [second]);
    const gone = "The issuer with the ID 1 is not registered.";
    const elsewhere = { id: "b", url: "https://other", issuer: own.url };
    assert.deepEqual((await additionsIn([elsewhere])).found, [second, gone]);
    assert.deepEqual((await additionsIn([own, { id: "b", url: `${own.url}B` }])).found, []);
  });

  const registered = (url: string, ...thumbprints: string[]) =>
    additionsIn([{ ...own, url, thumbprints }], programs(), url);

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

  test("is no thumbprint if the certificate cannot be read, and verified by an authority of Node.js, which is a note", async (t) => {
    const connections: tls.ConnectionOptions[] = [];
    t.mock.method(tls, "connect", (options: tls.ConnectionOptions) => {
      connections.push(options);
      throw new Error("not connected");
    });
    assert.deepEqual(await registered("https://issuer.example/id/A", "0B"), {
      found: [],
      notes: ["The issuer's TLS certificate could not be read, to compare its thumbprint: not connected"],
    });
    const host = "issuer.example";
    const ca = [...tls.rootCertificates];
    assert.deepEqual(connections, [{ host, port: 443, servername: host, rejectUnauthorized: true, ca }]);
  });
});
