// The guardrail about access tokens that are stored: on a cluster, in a state, or in Pulumi Cloud.

import type { Rule } from "./rule";
import { at, fieldsOf, type Value } from "./values";

/** An access token; not a placeholder, such as only zeros. */
const TOKEN = /pul-(?!(.)\1{39})[0-9a-f]{40}(?![0-9a-f])/;
/** What can be an access token in base64. */
const ENCODED = /[\w+/-]{59,}/g;
const VARIABLE = "PULUMI_ACCESS_TOKEN";
const TOKEN_TYPES =
  /^pulumiservice:(index:((Access|OrgAccess|TeamAccess)Token|AgentPool)|api\/(tokens:\w+|agents:Pool))$/;

export const noStoredToken: Rule = {
  name: "no-stored-token",
  description: "The program creates no access token, contains none, and names no PULUMI_ACCESS_TOKEN.",
  // A migration has both for a while.
  level: "advisory",
  check({ type, inputs }, { report }) {
    // The guardrail login is for these.
    if (type.startsWith("pulumi:providers:")) return;
    if (TOKEN_TYPES.test(type)) report("It has an access token, which the state stores.");
    if (containsToken(inputs)) report("It contains an access token.");
    const isEnvironment = /^pulumiservice:.*:Environment$/.test(type) && `${inputs.yaml}`.includes(VARIABLE);
    if (isEnvironment || hasVariable(inputs)) report(`It sets the variable ${VARIABLE}.`);
    if (type.startsWith("kubernetes:pulumi.com/") && at(inputs, "spec", "accessTokenSecret") !== undefined) {
      report("It reads an access token from a Secret (accessTokenSecret).");
    }
  },
};

/** Returns whether a string inside a value contains a token, as it is, or in base64 with or without line breaks. */
function containsToken(value: Value | undefined): boolean {
  if (typeof value !== "string") return Object.values(value ?? {}).some(containsToken);
  const encoded = [value.replaceAll(/\s/g, ""), value].flatMap((it) => it.match(ENCODED) ?? []);
  return [value, ...encoded.map((it) => Buffer.from(it, "base64").toString())].some((it) => TOKEN.test(it));
}

/** Returns whether an object sets the variable: as a key, or as one of a list of variables with their names. */
function hasVariable(value: Value | undefined): boolean {
  if (Array.isArray(value)) return value.some(hasVariable);
  const fields = fieldsOf(value);
  const isNamed = Object.values(fields).includes(VARIABLE) && fields.value !== "";
  return isNamed || Object.entries(fields).some(([key, it]) => (key === VARIABLE && !!it) || hasVariable(it));
}
