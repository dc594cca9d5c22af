// The promises of the policy pack, in the order in which a reviewer reads them.
//
// To import this file, name it: the main file of this directory is start.js, which serves the rules to Pulumi's engine.

import {
  associations,
  otherRolePolicies,
  otherTrustPolicies,
  ownRoles,
  rolePermissions,
  trustPolicies,
} from "./aws";
import { nothingElse, nothingIgnored, providers, sameVersion } from "./component";
import { attachedPolicies, besideTheProgram } from "./existing";
import { injection, job, ownObjects, rbac, request } from "./kubernetes";
import {
  allowPolicies,
  limits,
  literalNames,
  noStoredToken,
  oneIssuer,
  serviceAccountsHaveComponent,
} from "./pulumiCloud";
import type { Rule } from "./rule";

export const policies: Rule[] = [
  sameVersion,

  // Who is granted which access token.
  limits,
  literalNames,
  allowPolicies,
  oneIssuer,
  serviceAccountsHaveComponent,
  providers,

  // Who gets which role, and what it may do.
  trustPolicies,
  rolePermissions,
  ownRoles,
  associations,

  // What pods run, and as whom.
  ownObjects,
  request,
  job,
  injection,

  // Nothing beside it.
  nothingElse,
  nothingIgnored,

  // For a reviewer: they stop nothing, unless the configuration makes them mandatory.
  noStoredToken,
  otherRolePolicies,
  otherTrustPolicies,
  rbac,
  besideTheProgram,
  attachedPolicies,
];
