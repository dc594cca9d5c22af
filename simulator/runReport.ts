// How a simulated run is reported: the resources that the program registered, and the output of its Jobs.

import type { Registration } from "./runProgram";
import { paint, tableRow, width, wrap } from "./terminal";

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
  "kubernetes:batch/v1:Job": "Job",
};

/** Columns of a label. */
const LABEL_WIDTH = 17;

/** Output of successful Jobs is left out beyond this many of them. */
const SHOWN_JOBS = 5;

/** Returns a line for each type, with the ID of its only resource or with their number; if verbose, for each resource. */
export function resourceLines(registered: Pick<Registration, "type" | "id">[], verbose: boolean): string[] {
  return Object.entries(LABELS).flatMap(([type, label]) => {
    const ids = registered.filter((resource) => resource.type === type).map(({ id }) => id);
    if (verbose) return ids.flatMap((id) => tableRow([label, id], [LABEL_WIDTH]));
    const [id, ...others] = ids;
    if (id === undefined) return [];
    return tableRow([label, others.length > 0 ? String(ids.length) : shortened(id)], [LABEL_WIDTH]);
  });
}

function shortened(id: string): string {
  const left = width() - LABEL_WIDTH - 4;
  return id.length > left ? `${id.slice(0, left - 1)}…` : id;
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
