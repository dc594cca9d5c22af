// The rules about Pulumi Cloud: who is granted which access token.

import { type Account, COMPONENT, idOf, type Settings } from "./program";
import { compare, type ResourceRule } from "./rule";
import { at, type Fields, fieldsOf, isUnknown, listOf, textOf, type Value } from "./values";

export const ISSUER = "pulumiservice:index:OidcIssuer";

/** The issuers of every module of the package. */
const ISSUERS = /^pulumiservice:.*:OidcIssuer$/;

/** The claims of an ID token that name its service account. The quotes keep the dot from separating two names. */
const NAMESPACE = '"kubernetes.io".namespace';
const NAME = '"kubernetes.io".serviceaccount.name';

export const allowPolicies: ResourceRule = {
  name: "allow-policies",
  description: "A component's issuer has one allow policy for each service account's token, and no other.",
  level: "mandatory",
  checkResource({ type, inputs, settings }, report) {
    if (type !== ISSUER || !settings) return;
    const { organization, issuerName, issuerUrl, maxExpirationSeconds, serviceAccounts } = settings;
    compare(report, "The issuer's organization", inputs.organization, organization);
    compare(report, "The issuer's name", inputs.name, issuerName);
    compare(report, "The issuer's url", inputs.url, issuerUrl);
    compare(report, "The issuer's maxExpirationSeconds", inputs.maxExpirationSeconds, maxExpirationSeconds);

    if (!Array.isArray(inputs.policies)) {
      report(`The allow policies are ${textOf(inputs.policies)}, and not a list.`);
      return;
    }
    const left = new Set(inputs.policies);
    for (const account of serviceAccounts) {
      const policies = inputs.policies.filter((policy) => isFor(account, policy));
      if (policies.length !== 1)
        report(`${idOf(account)} has ${policies.length} allow policies instead of 1.`);
      for (const policy of policies) {
        left.delete(policy);
        compare(report, `The allow policy of ${idOf(account)}`, policy, allowPolicy(settings, account));
      }
    }
    for (const policy of left) {
      report(`An allow policy is for no service account of the settings: ${textOf(policy)}.`);
    }
  },
};

function isFor({ namespace, name }: Account, policy: Value): boolean {
  return at(policy, "rules", NAMESPACE) === namespace && at(policy, "rules", NAME) === name;
}

/** The allow policy of a service account: https://www.pulumi.com/docs/administration/concepts/oidc-issuers/ */
function allowPolicy({ audienceRule }: Settings, account: Account): Fields {
  const rules = {
    ...account.policyRules,
    [NAMESPACE]: account.namespace,
    [NAME]: account.name,
    ...(audienceRule && { aud: account.tokenAudience }),
  };
  return { decision: "allow", tokenType: account.tokenType, ...ownerOf(account), rules };
}

/** Returns whose token an allow policy grants. */
function ownerOf(account: Account): Fields {
  switch (account.tokenType) {
    case "personal":
      return { userLogin: account.userLogin };
    case "team":
      return { teamName: account.teamName };
    case "runner":
      return { runnerID: account.runnerId };
    case "organization":
      if (account.organizationRoleId !== undefined) return { roleID: account.organizationRoleId };
      return account.organizationAdmin ? { authorizedPermissions: ["admin"] } : {};
  }
}

/** The names of Kubernetes without a dot, which an allow policy reads as a pattern, as it does * and ?. */
const LITERAL_NAME = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;

const isLiteral = (value: Value | undefined) => typeof value === "string" && !/[*?]/.test(value);

export const literalNames: ResourceRule = {
  name: "literal-names",
  description: "An allow policy names a service account, or a subject and an audience, without * or ?.",
  level: "mandatory",
  checkResource({ type, inputs, component }, report) {
    if (type === COMPONENT) {
      for (const entry of listOf(inputs.serviceAccounts)) {
        for (const setting of ["namespace", "name"]) {
          const value = at(entry, setting);
          if (typeof value !== "string" || !LITERAL_NAME.test(value)) {
            report(`The ${setting} ${textOf(value)} can be a pattern.`);
          }
        }
        const audience = at(entry, "tokenAudience");
        if (!isLiteral(audience)) report(`The tokenAudience ${textOf(audience)} can be a pattern.`);
      }
    }
    if (component || !ISSUERS.test(type)) return;
    if (isUnknown(inputs.policies)) report("Its allow policies are known after the update.");
    for (const policy of listOf(inputs.policies)) {
      if (at(policy, "decision") === "deny") continue;
      const { sub, aud } = fieldsOf(at(policy, "rules"));
      if (!isLiteral(sub) || !isLiteral(aud)) {
        report(`An allow policy does not name a subject and an audience: ${textOf(policy)}.`);
      }
    }
  },
};

export const serviceAccountsHaveComponent: ResourceRule = {
  name: "service-accounts-have-component",
  description: "Every service account that is granted a token is in the settings of a component.",
  level: "mandatory",
  checkResource({ type, inputs, component }, report) {
    if (component) return;
    const [, , typeName = ""] = type.split(":");
    if (type !== COMPONENT && /^(PulumiCloudAccess|WorkloadIdentity)$/i.test(typeName)) {
      report(`Its type is ${textOf(type)} instead of "${COMPONENT}", so it is compared with no settings.`);
    }
    if (!ISSUERS.test(type)) return;
    const ofServiceAccounts = listOf(inputs.policies).filter(isForServiceAccounts);
    if (ofServiceAccounts.length > 0) {
      report(
        "It grants access tokens to service accounts, and is in no component. List them in serviceAccounts of one: " +
          `${textOf(ofServiceAccounts)}.`,
      );
    }
  },
};

/** Returns whether an allow policy can be for a service account, by a claim that Kubernetes issues. */
function isForServiceAccounts(policy: Value): boolean {
  const rules = Object.entries(fieldsOf(at(policy, "rules")));
  return rules.some(([claim, value]) => claim.includes("kubernetes.io") || canBeServiceAccount(`${value}`));
}

/** Returns whether a value, which can be a pattern, matches a subject of Kubernetes: a dot or ? matches any character. */
function canBeServiceAccount(value: string): boolean {
  return [..."system:serviceaccount"].every((character, index) => {
    return [character, ".", "?"].includes(value[index] ?? "");
  });
}

export const limits: ResourceRule = {
  name: "limits",
  description:
    "No service account asks for an admin's token, and no component's token lives for over an hour, unless this pack's configuration allows it.",
  level: "mandatory",
  configuration: {
    organizationAdmins: { type: "array", items: { type: "string" }, default: [] },
    maxExpirationSeconds: { type: "integer", default: 3600 },
  },
  checkResource({ type, inputs }, report, configuration) {
    if (type !== COMPONENT) return;
    for (const entry of listOf(inputs.serviceAccounts)) {
      const id = `${at(entry, "namespace")}/${at(entry, "name")}`;
      if (at(entry, "organizationAdmin") && !listOf(configuration.organizationAdmins).includes(id)) {
        report(`${id} gets the token of an admin. To allow it, add it to organizationAdmins of "limits".`);
      }
    }
    // Not that of each entry: anyone who has the ID token can request another one, up to this.
    const { maxExpirationSeconds } = inputs;
    const isLimited = typeof maxExpirationSeconds === "number" && maxExpirationSeconds > 0;
    if (!isLimited || maxExpirationSeconds > Number(configuration.maxExpirationSeconds)) {
      report(
        `Access tokens live for up to ${textOf(maxExpirationSeconds)} s instead of ` +
          `${textOf(configuration.maxExpirationSeconds)} s. To allow it, set maxExpirationSeconds of "limits".`,
      );
    }
  },
};

export const oneIssuer: ResourceRule = {
  name: "one-issuer",
  description:
    "No other issuer has the URL of a component's, and nothing else can replace an issuer's allow policies.",
  level: "mandatory",
  checkResource({ urn, type, inputs, settings, program }, report) {
    if (/^pulumiservice:.*:(Auth)?Policy$/.test(type))
      report("It can replace the allow policies of an issuer.");
    if (!ISSUERS.test(type)) return;
    // Two clusters that the same update creates have no URL yet.
    if (isUnknown(inputs.url)) {
      if (isUnknown(settings?.issuerUrl)) return;
      report("Its URL is known after the update, and can be that of a component's issuer.");
    }
    for (const other of program.resources) {
      if (other.urn === urn || !ISSUERS.test(other.type)) continue;
      if (normalizedUrl(other.inputs.url) === normalizedUrl(inputs.url)) {
        report(`${textOf(inputs.url)} is also the URL of the issuer ${other.name}.`);
      }
    }
  },
};

/** Returns the form of a URL that all of its spellings have. */
function normalizedUrl(value: Value | undefined): string {
  const text = `${value}`;
  const withScheme = /^[a-z]+:\/\//i.test(text) ? text : `https://${text}`;
  if (!URL.canParse(withScheme)) return text;
  const { host, pathname } = new URL(withScheme);
  const path = decodeURIComponent(pathname).replaceAll(/\/+/g, "/").replace(/\/$/, "");
  return `${host.replace(/\.+$/, "")}${path}`.toLowerCase();
}

const STORED_TOKEN = /^pulumiservice:(index:(Access|OrgAccess|TeamAccess)Token|api\/tokens:\w+)$/;

export const noStoredToken: ResourceRule = {
  name: "no-stored-token",
  description: "No access token is stored on the cluster or in a state.",
  // A migration has both for a while.
  level: "advisory",
  checkResource({ type, inputs }, report) {
    if (STORED_TOKEN.test(type)) report("It is an access token, and stored in the state.");
    if (!type.startsWith("kubernetes:")) return;
    const files = Object.entries({
      ...fieldsOf(inputs.data),
      ...fieldsOf(inputs.stringData),
      ...fieldsOf(inputs.binaryData),
    });
    const contents = files.map(([, value]) => Buffer.from(`${value}`, "base64").toString("latin1"));
    const isToken = (text: string) => /\bpul-[0-9a-f]{40}\b/.test(text);
    if ([JSON.stringify(inputs), ...contents].some(isToken)) report("It contains an access token.");
    const isVariable = files.some(([name]) => name === "PULUMI_ACCESS_TOKEN");
    if (isVariable || hasVariable(inputs, "PULUMI_ACCESS_TOKEN")) {
      report("It gives a workload the variable PULUMI_ACCESS_TOKEN.");
    }
  },
};

/** Returns whether an object contains a container with this variable, wherever its pod spec is. */
function hasVariable(value: Value | undefined, name: string): boolean {
  if (Array.isArray(value)) return value.some((it) => hasVariable(it, name));
  const { env, ...others } = fieldsOf(value);
  const isSet = listOf(env).some((it) => at(it, "name") === name);
  return isSet || Object.values(others).some((it) => hasVariable(it, name));
}
