// The guardrails about Pulumi Cloud: who is granted which access token, and where a provider sends the login's.

import { AWS_AUDIENCES, allowPoliciesOf, ISSUER, isListed, isOfCluster, SUBJECT } from "./clusters";
import { canBothMatch } from "./patterns";
import { list, type Rule } from "./rule";
import { type Fields, fieldsOf, isUnknown, stringsOf, textOf, type Value } from "./values";

/** The claims of an ID token of Kubernetes that name its service account. The quotes keep the dot from separating two names. */
const NAMESPACE = '"kubernetes.io".namespace';
const NAME = '"kubernetes.io".serviceaccount.name';

export const limits: Rule = {
  name: "limits",
  description:
    "No admin's or forbidden token is granted, issuers are listed, and clusters' tokens expire in time.",
  level: "mandatory",
  settings: {
    maxExpirationSeconds: { type: "integer", default: 3600, description: "For the tokens of a cluster." },
    organizationAdmins: list("Who can be an admin: NAMESPACE/NAME, or the sub of any other ID token."),
    forbidden: list(
      "What no one can be granted: team:NAME, user:LOGIN, runner:ID, or role:ID, also with *.",
      "^(team|user|runner|role):.",
    ),
    issuers: list("URLs of the issuers that can be registered, or how they begin. If empty, any."),
    clusters: list("URLs of clusters' issuers, or how they begin, beside those of EKS, GKE, and AKS."),
  },
  check(resource, { settings, clusters, report }) {
    for (const policy of allowPoliciesOf(resource)) {
      const rules = fieldsOf(policy.rules);
      const grantee = accountIn(rules) ?? `${rules.sub ?? JSON.stringify(rules)}`;
      const isAdmin = stringsOf(policy.authorizedPermissions).some((it) => /^\s*admin\s*$/i.test(it));
      if (isAdmin && !stringsOf(settings.organizationAdmins).includes(grantee)) {
        report(`${textOf(grantee)} is granted an admin's token.`, "organizationAdmins");
      }
      for (const token of stringsOf(settings.forbidden).filter((it) => canGrant(policy, it))) {
        report(`${textOf(grantee)} can be granted a forbidden token: ${textOf(token)}.`, "forbidden");
      }
    }
    if (!ISSUER.test(resource.type)) return;
    const { url, maxExpirationSeconds, maxExpiration } = resource.inputs;
    const given = [maxExpirationSeconds, maxExpiration].filter((it) => it !== undefined);
    const longest = Number(settings.maxExpirationSeconds);
    const isLimited = given.every((it) => isUnknown(it) || (Number(it) > 0 && Number(it) <= longest));
    if (isOfCluster(resource, clusters) && (given.length === 0 || !isLimited)) {
      const found = textOf(given.length > 1 ? given : given[0]);
      report(`maxExpirationSeconds is ${found} instead of at most ${longest}.`, "maxExpirationSeconds");
    }
    const listed = stringsOf(settings.issuers);
    if (listed.length === 0 || isUnknown(url) || isListed(url, listed)) return;
    report(`The issuer's url is ${textOf(url)} instead of one of ${textOf(listed)}.`, "issuers");
  },
};

/** The properties of an allow policy that say whose token it grants. Their case differs between modules. */
const OWNER = /^(team|user|runner|role)(Name|Login|ID)$/i;

/** Returns whether an allow policy can grant a token such as `team:NAME`. Both can have patterns. */
function canGrant(policy: Fields, token: string): boolean {
  return Object.entries(policy).some(([property, owner]) => {
    const [, kind] = OWNER.exec(property) ?? [];
    if (kind === undefined || owner === "") return false;
    const granted = stringsOf(owner).map((it) => `${kind}:${it}`.toLowerCase());
    return granted.some((it) => canBothMatch(it, token.toLowerCase(), "*"));
  });
}

/** Returns the service account that rules name without a character of a pattern, as `NAMESPACE/NAME`. */
function accountIn(rules: Fields): string | undefined {
  const { [NAMESPACE]: namespace, [NAME]: name, sub } = rules;
  const ofSubject = `${sub}`.startsWith(SUBJECT) ? `${sub}`.slice(SUBJECT.length).split(":") : [];
  const isName = (it: Value | undefined) => /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(`${it}`) && !isUnknown(it);
  const candidates = [[namespace ?? "", name ?? ""], ofSubject];
  return candidates.find((it) => it.length === 2 && it.every(isName))?.join("/");
}

export const oneServiceAccount: Rule = {
  name: "one-service-account",
  description: "An allow policy of a cluster names one service account, and one audience that is not AWS'.",
  level: "mandatory",
  settings: { requireAudience: { type: "boolean", default: true, description: "Whether aud is required." } },
  check(resource, { settings, clusters, report }) {
    if (!isOfCluster(resource, clusters)) return;
    for (const { rules: given } of allowPoliciesOf(resource)) {
      // The rules are a string as long as none of them is known.
      if (typeof given === "string") continue;
      const rules = fieldsOf(given);
      const account = accountIn(rules);
      const isKnown = ![rules[NAMESPACE], rules[NAME], rules.sub].some(isUnknown);
      if (account === undefined && isKnown) {
        const due = `${NAMESPACE} and ${NAME}, or sub "${SUBJECT}NAMESPACE:NAME", without * ? . in a name`;
        report(`An allow policy names no single service account: ${textOf(rules)}. Require ${due}.`);
      }
      if (settings.requireAudience && !isOneAudience(`${rules.aud ?? ""}`)) {
        const found = `The aud of ${account ?? "any service account"} is ${textOf(rules.aud)}`;
        report(`${found} instead of one that is not AWS'.`, "requireAudience");
      }
    }
  },
};

function isOneAudience(audience: string): boolean {
  return !/[*?]|^\.*$/.test(audience) && !AWS_AUDIENCES.some((it) => canBothMatch(audience, it));
}

export const openIssuer: Rule = {
  name: "open-issuer",
  description: "Each allow policy of an issuer that is no cluster's requires more than aud and wildcards.",
  level: "advisory",
  settings: { issuers: list("URLs of issuers, or how they begin, all of whose ID tokens are meant.") },
  check(resource, { settings, clusters, report }) {
    if (isOfCluster(resource, clusters) || isListed(resource.inputs.url, stringsOf(settings.issuers))) return;
    for (const { rules } of allowPoliciesOf(resource)) {
      if (typeof rules !== "string" && !Object.entries(fieldsOf(rules)).some(saysWho)) {
        report(`Anyone with an ID token of it is granted an access token: ${textOf(rules)}.`, "issuers");
      }
    }
  },
};

/** Returns whether a rule requires something that not every ID token has. */
function saysWho([claim, value]: [string, Fields[string]]): boolean {
  return !/^(aud|exp|iat|iss|jti|nbf)$/.test(claim) && !/^[*?.]*$/.test(`${value}`);
}

export const login: Rule = {
  name: "login",
  description: "A Pulumi Cloud provider sets no access token, and only a known apiUrl.",
  level: "mandatory",
  settings: {
    apiUrls: {
      ...list("Where a provider can send the login's access token."),
      default: ["https://api.pulumi.com"],
    },
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
    if (!apiUrl || isUnknown(apiUrl) || allowed.some((it) => hrefOf(it) === hrefOf(`${apiUrl}`))) return;
    report(`The provider's apiUrl is ${textOf(apiUrl)} instead of one of ${textOf(allowed)}.`, "apiUrls");
  },
};

/** Returns a URL whose host is in lowercase. */
function hrefOf(url: string): string {
  return (URL.canParse(url) ? new URL(url).href : url).replace(/\/$/, "");
}
