// The guardrails of the policy pack, in the order in which a reviewer reads them.
//
// To import this file, name it: the main file of this directory is start.js, which serves the guardrails to Pulumi's engine.

import { besideTheProgram, notIgnored } from "./drift";
import { limits, login, oneServiceAccount, openIssuer } from "./issuers";
import { permissionsBoundary, trust, trustPatterns } from "./roles";
import type { Rule } from "./rule";
import { noStoredToken } from "./storedTokens";

export const policies: Rule[] = [
  // Who is granted which access token.
  limits,
  oneServiceAccount,
  login,
  // Who gets which role.
  trust,
  permissionsBoundary,
  notIgnored,
  // For a reviewer: they stop nothing, unless the configuration makes them mandatory.
  trustPatterns,
  openIssuer,
  noStoredToken,
  besideTheProgram,
];
