// The policies that the program generates, for a review: the trust policy of each role, and the allow policies.

import { isAbout } from "./accessCheck";
import type { Registration } from "./mocks";

/**
 * Returns the trust policy (null without an IAM role) and the allow policy of each service account, by `NAMESPACE/NAME`.
 *
 * @param registered the resources of the stack.
 * @param issuerUrl the emulated issuer, which is replaced by a placeholder in the form of EKS.
 */
export function generatedPolicies(registered: Registration[], issuerUrl: string, region: string): object {
  const placeholder = `oidc.eks.${region}.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE`;
  const ofType = (type: string) => registered.filter((resource) => resource.type === type);
  const allowPolicies = ofType("pulumiservice:index:OidcIssuer").flatMap(
    ({ inputs }) => inputs.policies as { rules: Record<string, string> }[],
  );
  const entries = ofType("eks-pulumi-oidc:index:WorkloadIdentity").map(({ name: component }) => {
    const [namespace = "", name = ""] = component.split(".");
    const role = ofType("aws:iam/role:Role").find((resource) => resource.name === component);
    const trustPolicy = JSON.stringify(role?.inputs.assumeRolePolicy ?? null);
    return [
      `${namespace}/${name}`,
      {
        trustPolicy: JSON.parse(trustPolicy.replaceAll(issuerUrl.replace("https://", ""), placeholder)),
        allowPolicy: allowPolicies.find(({ rules }) => isAbout(rules, namespace, name)) ?? null,
      },
    ];
  });
  return Object.fromEntries(entries);
}
