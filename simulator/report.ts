// How a simulation is reported: the resources that the program registered, the output of its Jobs, who is granted which token, and
// the promises of the policy pack.

import { policies } from "../policy/index";
import type { Violation } from "../policy/runRules";
import type { Registration } from "../test/environment/runProgram";
import type { AccountSettings, Finding } from "./exchanges";
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
    const [id, ...others] = ids;
    if (id === undefined) return [];
    if (verbose) return ids.flatMap((it) => tableRow([[label, LABEL_WIDTH]], it));
    return tableRow([[label, LABEL_WIDTH]], others.length > 0 ? String(ids.length) : shortened(id));
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
    ...lines.filter(isUseful).flatMap((line) => wrap(line, 4)),
  ]);
}

/** The emulated Pulumi Cloud matches lists, so that the rule on the audience is never what denies a token here. */
function isUseful(line: string): boolean {
  return !line.includes("audienceRule");
}

/** What a simulation has found about the service accounts. */
export interface Result {
  /** What each is granted, by `NAMESPACE/NAME`: an output of the stack. */
  grants: Record<string, string>;
  findings: Finding[];
  /** What the emulators assume of each, by `NAMESPACE/NAME`. */
  notes: Map<string, string[]>;
}

const EXCHANGE_WIDTH = "Exchange".length;

/** Returns a row for each service account with the result of its exchange and what it is granted, and who acts as the same owner. */
export function accountLines(accounts: AccountSettings[], { grants, findings, notes }: Result): string[] {
  const idWidth = Math.min(40, Math.max("Service account".length, ...accounts.map(({ id }) => id.length)));
  const row = (id: string, exchange: string, text: string) => {
    return tableRow(
      [
        [id, idWidth],
        [exchange, EXCHANGE_WIDTH],
      ],
      text,
    );
  };
  const rows = accounts.flatMap(({ id }) => {
    const ofAccount = findings.filter(({ account }) => account === id);
    const style = ofAccount.length > 0 ? "red" : "green";
    return [
      ...row(id, ofAccount.length > 0 ? "failed" : "granted", grants[id] ?? "").map((line) =>
        paint(style, line),
      ),
      ...ofAccount.flatMap(({ text }) => wrap(text, 4).map((line) => paint("red", line))),
      ...(notes.get(id) ?? []).flatMap((text) => wrap(text, 4)),
    ];
  });
  return [
    ...row("Service account", "Exchange", "Access token and IAM role").map((line) => paint("bold", line)),
    ...rows,
    "",
    ...sharedOwnerLines(accounts),
    ...wrap(
      "In each namespace, a service account without an entry asks for the same tokens, and must be denied.",
      2,
      2,
    ),
  ];
}

/** Returns a sentence for each owner as which several service accounts act: their tokens can do the same. */
function sharedOwnerLines(accounts: AccountSettings[]): string[] {
  return [...new Set(accounts.map(({ owner }) => owner))].flatMap((owner) => {
    const sharing = accounts.filter((account) => account.owner === owner).map(({ id }) => id);
    if (sharing.length < 2) return [];
    return wrap(`These service accounts act as the same ${owner}: ${sharing.join(", ")}.`, 2, 4);
  });
}

/**
 * Returns the promises of the policy pack: those that hold by their names, and if verbose, with their sentences; of the others, what
 * breaks them.
 */
export function promiseLines(violations: Violation[], verbose: boolean): string[] {
  const isReported = (name: string) => violations.some(({ policy }) => policy === name);
  const held = policies.filter(({ name }) => !isReported(name));
  const names = held.map(({ name }) => name).join(", ");
  const heldLines = verbose
    ? held.flatMap(({ name, description }) => wrap(`${name}: ${description}`, 2, 4))
    : wrap(`${held.length} hold: ${names}.`, 2, 4);
  const reported = policies.filter(({ name }) => isReported(name));
  return [
    ...heldLines.map((line) => paint("green", line)),
    ...reported.flatMap(({ name, description }) => {
      const ofPolicy = violations.filter(({ policy }) => policy === name);
      const isBroken = ofPolicy.some(({ level }) => level === "mandatory");
      const lines = [
        ...wrap(`${isBroken ? "Broken" : "For a reviewer"}: ${name}: ${description}`, 2, 4),
        ...ofPolicy.flatMap(({ name: resource, message }) =>
          wrap(`${resource ?? "stack"}: ${message}`, 4, 6),
        ),
      ];
      return isBroken ? lines.map((line) => paint("red", line)) : lines;
    }),
  ];
}
