// The guardrails about Pulumi Cloud: who is granted which access token, and where a provider sends the login's.

import { AUTH_POLICY, grantsOf, ISSUER, isOfCluster, NAME, NAMESPACE, SUBJECT } from "./grants";
import { list, type Resource, type Rule } from "./rule";
import { canMatch, type Fields, isUnknown, normalizedUrl, stringsOf, textOf } from "./values";

export const limits: Rule = {
  name: "limits",
  description:
    "No policy grants an organization's admin token or a forbidden token, or lets a cluster's tokens outlive the limit.",
  level: "mandatory",
  severity: "critical",
  remediation: "Grant less, or list in the configuration what is meant.",
  settings: {
    maxExpirationSeconds: { type: "integer", default: 3600, description: "For the tokens of a cluster." },
    organizationAdmins: list("Who can be an admin: NAMESPACE/NAME, or the sub of any other ID token."),
    forbidden: {
      ...list("What no one can be granted: team:NAME, user:LOGIN, runner:ID, or role:ID."),
      items: { type: "string", pattern: "^(team|user|runner|role):[^*?]+$" },
    },
    issuers: list("URLs of the issuers that can be registered, or how they begin. If empty, any."),
  },
  check(resource, { settings, report }) {
    for (const { policy, rules, account } of grantsOf(resource)) {
      const grantee = account ?? `${rules.sub ?? JSON.stringify(rules)}`;
      const isAdmin = stringsOf(policy.authorizedPermissions).some((it) => /^admin$/i.test(it));
      if (isAdmin && !stringsOf(settings.organizationAdmins).includes(grantee)) {
        report(`${textOf(grantee)} is granted an admin's token.`, "organizationAdmins");
      }
      for (const token of stringsOf(settings.forbidden).filter((it) => canBeGranted(policy, it))) {
        report(`${textOf(grantee)} can be granted a forbidden token: ${textOf(token)}.`, "forbidden");
      }
    }
    if (!ISSUER.test(resource.type)) return;
    const { url, maxExpirationSeconds, maxExpiration } = resource.inputs;
    const lifetime = maxExpirationSeconds ?? maxExpiration;
    const longest = Number(settings.maxExpirationSeconds);
    const isLimited = Number(lifetime) > 0 && Number(lifetime) <= longest;
    if (isOfCluster(`${url}`, [resource]) && !isLimited && !isUnknown(lifetime)) {
      report(
        `maxExpirationSeconds is ${textOf(lifetime)} instead of at most ${longest}.`,
        "maxExpirationSeconds",
      );
    }
    const listed = stringsOf(settings.issuers);
    const isListed = listed.some((it) => `${normalizedUrl(url)}/`.startsWith(`${normalizedUrl(it)}/`));
    if (listed.length > 0 && !isUnknown(url) && !isListed) {
      report(`The issuer's url is ${textOf(url)} instead of one of ${textOf(listed)}.`, "issuers");
    }
  },
};

/** The properties of an allow policy that say whose token it grants. */
const OWNERS = { team: "teamName", user: "userLogin", runner: "runnerID", role: "roleID" };

/** Returns whether an allow policy, which can have a pattern, grants a token such as `team:NAME`. */
function canBeGranted(policy: Fields, token: string): boolean {
  return Object.entries(OWNERS).some(([kind, property]) => {
    return stringsOf(policy[property]).some((it) => canMatch(`${kind}:${it}`, token));
  });
}

export const oneServiceAccount: Rule = {
  name: "one-service-account",
  description: "An allow policy for Kubernetes names one service account and audience, without * or ?.",
  level: "mandatory",
  severity: "critical",
  remediation: `In each allow policy of a cluster, require aud, and ${NAMESPACE} with ${NAME} or sub.`,
  settings: {
    requireAudience: { type: "boolean", default: true, description: "Whether aud is required." },
  },
  check(resource, { settings, report }) {
    for (const { policy, rules, account, isOfKubernetes } of grantsOf(resource)) {
      // The rules are a string as long as none of them is known.
      if (!isOfKubernetes || typeof policy.rules === "string") continue;
      const isKnown = ![rules[NAMESPACE], rules[NAME], rules.sub].some(isUnknown);
      if (account === undefined && isKnown) {
        const due = `${NAMESPACE} and ${NAME}, or sub "${SUBJECT}NAMESPACE:NAME", without * ? . in a name`;
        report(`An allow policy names no single service account: ${textOf(policy)}. Require ${due}.`);
      }
      if (settings.requireAudience && !/^[^*?]*[^*?.][^*?]*$/.test(`${rules.aud ?? ""}`)) {
        const who = account ?? "any service account";
        report(`The aud of ${who} is ${textOf(rules.aud)} instead of one audience.`, "requireAudience");
      }
    }
  },
};

export const oneIssuer: Rule = {
  name: "one-issuer",
  description:
    "In a program, a URL has one issuer in an organization, and nothing else grants a cluster's tokens.",
  level: "mandatory",
  severity: "high",
  remediation: "Register one OidcIssuer for each cluster and organization, with all of its allow policies.",
  check(resource, { program, report }) {
    const { urn, type, inputs } = resource;
    if (type === AUTH_POLICY && grantsOf(resource).some((it) => it.isOfKubernetes)) {
      report("It replaces the allow policies of a cluster's issuer instead of those of its OidcIssuer.");
    }
    const key = keyOf(resource);
    const others = program.filter((it) => it.urn !== urn && key !== undefined && keyOf(it) === key);
    for (const { name } of others) report(`Its url ${textOf(inputs.url)} is also that of ${textOf(name)}.`);
  },
};

/** Returns what only one issuer can have; undefined for other resources, or if it is not known yet. */
function keyOf({ type, inputs }: Resource): string | undefined {
  const organization = inputs.organization ?? inputs.orgName;
  if (!ISSUER.test(type) || isUnknown(organization) || isUnknown(inputs.url)) return undefined;
  return `${organization} ${normalizedUrl(inputs.url)}`.toLowerCase();
}

export const login: Rule = {
  name: "login",
  description: "A Pulumi Cloud provider sets no access token, and only a known apiUrl.",
  level: "mandatory",
  severity: "critical",
  remediation: "Log in with the Pulumi CLI, and set only apiUrl of the provider.",
  settings: {
    apiUrls: list("Where a provider can send the login's access token.", "https://api.pulumi.com"),
    allowAccessToken: { type: "boolean", default: false, description: "Whether accessToken can be set." },
  },
  check({ type, inputs, unaskedProvider }, { settings, report }) {
    const providers = [{ type, inputs }, unaskedProvider];
    const provider = providers.find((it) => it?.type === "pulumi:providers:pulumiservice");
    const { accessToken, apiUrl } = provider?.inputs ?? {};
    if (accessToken && !settings.allowAccessToken) {
      report("The provider has an accessToken instead of the login's.", "allowAccessToken");
    }
    const allowed = stringsOf(settings.apiUrls);
    const isAllowed = allowed.some((it) => it.replace(/\/$/, "") === `${apiUrl}`.replace(/\/$/, ""));
    if (apiUrl === undefined || isUnknown(apiUrl) || isAllowed) return;
    report(`The provider's apiUrl is ${textOf(apiUrl)} instead of one of ${textOf(allowed)}.`, "apiUrls");
  },
};
