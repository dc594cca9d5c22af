// How a simulated run is reported: the resources that the program registered, the output of its Jobs, and its policies.

import { paint, tableRow, wrap } from "../accessCheck/terminal";
import type { Registration } from "./runProgram";

const LABELS: Record<string, string> = {
  "eks:index:Cluster": "EKS cluster",
  "aws:eks/addon:Addon": "EKS add-on",
  "aws:iam/openIdConnectProvider:OpenIdConnectProvider": "IAM OIDC provider",
  "kubernetes:core/v1:Namespace": "Namespace",
  "pulumiservice:index:OidcIssuer": "OIDC issuer",
  "aws:iam/role:Role": "IAM role",
  "aws:iam/rolePolicyAttachment:RolePolicyAttachment": "Policy attachment",
  "aws:eks/podIdentityAssociation:PodIdentityAssociation": "Pod Identity",
  "kubernetes:core/v1:ServiceAccount": "Service account",
  "kubernetes:core/v1:ConfigMap": "ConfigMap",
  "kubernetes:admissionregistration.k8s.io/v1:MutatingAdmissionPolicy": "Mutating policy",
  "kubernetes:admissionregistration.k8s.io/v1:ValidatingAdmissionPolicy": "Validating policy",
  "kubernetes:batch/v1:Job": "Job",
};

/** Columns of a label, and of an ID. */
const WIDTHS = [17, 59];

/** Output of successful Jobs is left out beyond this many of them. */
const SHOWN_JOBS = 5;

/** Returns a line for each type, with the ID of its only resource or with their number; if verbose, for each resource. */
export function resourceLines(registered: Registration[], verbose: boolean): string[] {
  return Object.entries(LABELS).flatMap(([type, label]) => {
    const ids = registered.filter((resource) => resource.type === type).map(({ id }) => id);
    if (verbose) return ids.flatMap((id) => tableRow([label, id], WIDTHS));
    const [id, ...others] = ids;
    if (id === undefined) return [];
    return tableRow([label, others.length > 0 ? String(ids.length) : shortened(id)], WIDTHS);
  });
}

function shortened(id: string): string {
  const width = WIDTHS[1] ?? 0;
  return id.length > width ? `${id.slice(0, width - 1)}…` : id;
}

/**
 * Returns the output of each Job as lines. If there are many, returns only their number.
 *
 * @param jobs the log of each Job, by `NAMESPACE/NAME` of its service account.
 * @param showAll the output, however many Jobs there are.
 */
export function jobLines(jobs: Map<string, string[]>, showAll: boolean): string[] {
  if (jobs.size > SHOWN_JOBS && !showAll) {
    return [`  ${jobs.size} Jobs succeeded. To print their output: npm start -- --verbose`];
  }
  // They end in any order.
  const sorted = [...jobs].sort(([one], [other]) => one.localeCompare(other));
  return sorted.flatMap(([account, lines]) => [
    `  ${paint("bold", account)}`,
    ...lines.flatMap((line) => wrap(line, 4)),
  ]);
}

/**
 * Returns the generated trust policy (null without an IAM role) and allow policy of each service account, by
 * `NAMESPACE/NAME`, with a placeholder in the form of EKS for the emulated issuer.
 */
export function generatedPolicies(registered: Registration[], issuerUrl: string, region: string): object {
  const placeholder = `oidc.eks.${region}.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE`;
  const ofType = (type: string) => registered.filter((resource) => resource.type === type);
  const allowPolicies = ofType("pulumiservice:index:OidcIssuer").flatMap(
    ({ inputs }) => inputs.policies as { rules: Record<string, string> }[],
  );
  const entries = ofType("eks-pulumi-oidc:index:WorkloadIdentity").map(({ name: component }) => {
    const [, namespace = "", name = ""] = component.split(".");
    const role = ofType("aws:iam/role:Role").find((resource) => resource.name === component);
    const trustPolicy = JSON.stringify(role?.inputs.assumeRolePolicy ?? null);
    return [
      `${namespace}/${name}`,
      {
        trustPolicy: JSON.parse(trustPolicy.replaceAll(issuerUrl.replace("https://", ""), placeholder)),
        allowPolicy: allowPolicies.find(({ rules }) => namesServiceAccount(rules, namespace, name)) ?? null,
      },
    ];
  });
  return Object.fromEntries(entries);
}

/** Returns whether the rules of an allow policy name a service account. */
function namesServiceAccount(rules: Record<string, string>, namespace: string, name: string): boolean {
  return (
    rules['"kubernetes.io".namespace'] === namespace && rules['"kubernetes.io".serviceaccount.name'] === name
  );
}
