// The policies that the program generates, for a review: the trust policy of each role, and the allow policies.

import { isAbout } from "./accessCheck";
import type { Registration } from "./mocks";

export interface Policies {
  [serviceAccount: string]: {
    /** Null without an IAM role. */
    trustPolicy: unknown;
    allowPolicy: unknown;
  };
}

interface AllowPolicy {
  rules: Record<string, string>;
}

/**
 * Returns the policies of each service account, by `NAMESPACE/NAME`.
 *
 * @param registered the resources of the stack.
 * @param issuerUrl the emulated issuer, which is replaced by a placeholder in the form of EKS.
 */
export function generatedPolicies(registered: Registration[], issuerUrl: string, region: string): Policies {
  const placeholder = `oidc.eks.${region}.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE`;
  const ofType = (type: string) => registered.filter((resource) => resource.type === type);
  const policies = ofType("pulumiservice:index:OidcIssuer").flatMap(({ inputs }) => inputs.policies as AllowPolicy[]);
  const accounts = ofType("eks-pulumi-oidc:index:WorkloadIdentity").map(({ name }) => name.split("."));
  const found = accounts.map(([namespace = "", name = ""]) => {
    const role = ofType("aws:iam/role:Role").find((resource) => resource.name === `${namespace}.${name}`);
    const trustPolicy = role ? (role.outputs as { assumeRolePolicy: string }).assumeRolePolicy : "null";
    return [
      `${namespace}/${name}`,
      {
        trustPolicy: JSON.parse(trustPolicy.replaceAll(issuerUrl.replace("https://", ""), placeholder)),
        allowPolicy: policies.find(({ rules }) => isAbout(rules, namespace, name)) ?? null,
      },
    ];
  });
  return Object.fromEntries(found);
}
