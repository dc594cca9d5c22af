// The access check: which callers ask for the access of each service account, and which of them should be allowed. How
// they ask, and whom, is the caller's: the emulators, or the real services.

/** A service account of the stack, from the stack's outputs and its ConfigMap. */
export interface ServiceAccount {
  namespace: string;
  name: string;
  tokenType: string;
  /** Such as `user:LOGIN`; empty for an organization token. */
  tokenScope: string;
  /** The audience of the ID token that its workloads exchange. */
  audience: string;
  /** Whether its allow policy has a rule on `aud`. */
  audienceRule: boolean;
  /** What its workloads request from Pulumi Cloud: the variables of its ConfigMap. */
  environment: Record<string, string>;
  /** Undefined without an IAM role. */
  roleArn: string | undefined;
}

/** Anyone who asks for the access of a service account with an ID token. It differs from that account in one thing. */
export interface Caller {
  /** Such as `other namespace`, or the `NAMESPACE/NAME` of another service account of the stack. */
  label: string;
  /** The service account that the ID token names. */
  namespace: string;
  name: string;
  /** What is wrong with the ID token. */
  defect?: "other audience" | "expired token" | "invalid signature" | "other cluster";
}

/** One caller that asks for the access of one service account, and the answers that the settings intend. */
export interface Question {
  account: ServiceAccount;
  caller: Caller;
  intended: { pulumiCloud: boolean; role: boolean };
}

export interface Answer {
  allowed: boolean;
  /** Why, for people; not secret. */
  reason: string;
}

/** `role` is undefined if the service account has no IAM role, or the role was not asked. */
export interface Answers {
  pulumiCloud: Answer;
  role?: Answer | undefined;
}

export type Row = Question & Answers;

/** One row whose answer is not the intended one. */
export interface Finding {
  row: Row;
  service: "Pulumi Cloud" | "IAM role";
  answer: Answer;
  /** What the user can do about it. */
  advice: string;
}

/** The audience that the EKS webhook and AWS STS use. */
export const STS_AUDIENCE = "sts.amazonaws.com";

/**
 * Returns the service accounts that a stack's output describes.
 *
 * @param outputs the stack's output `serviceAccounts`.
 * @param configMap reads the data of a ConfigMap.
 * @param policies the allow policies of the stack's issuer; a rule on `aud` tells the audience of the ID token.
 */
export async function readServiceAccounts(
  outputs: Record<string, Record<string, string | undefined>>,
  configMap: (namespace: string, name: string) => Promise<Record<string, string>>,
  policies: { rules: Record<string, string> }[],
): Promise<ServiceAccount[]> {
  const accounts: ServiceAccount[] = [];
  for (const [id, output] of Object.entries(outputs)) {
    const [namespace = "", name = ""] = id.split("/");
    const policy = policies.find(({ rules }) => isAbout(rules, namespace, name));
    accounts.push({
      namespace,
      name,
      tokenType: output.tokenType ?? "",
      tokenScope: output.tokenScope ?? "",
      audience: policy?.rules.aud ?? STS_AUDIENCE,
      audienceRule: policy?.rules.aud !== undefined,
      environment: await configMap(namespace, output.environmentConfigMap ?? ""),
      roleArn: output.roleArn,
    });
  }
  return accounts;
}

/** Returns whether the rules of an allow policy name a service account. */
export function isAbout(rules: Record<string, string>, namespace: string, name: string): boolean {
  return rules['"kubernetes.io".namespace'] === namespace && rules['"kubernetes.io".serviceaccount.name'] === name;
}

/** Returns `NAMESPACE/NAME`. */
export function idOf({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}/${name}`;
}

/**
 * Returns the questions of the access check: for each service account, itself, callers that differ from it in one thing,
 * and every other service account of the stack.
 */
export function accessQuestions(accounts: ServiceAccount[]): Question[] {
  return accounts.flatMap((account) => {
    const { namespace, name } = account;
    const others = accounts.filter((other) => other !== account);
    const isKnown = (id: string) => accounts.some((other) => idOf(other) === id);
    return [
      { account, caller: { label: "itself", namespace, name }, intended: { pulumiCloud: true, role: true } },
      ...[
        {
          label: "other service account",
          namespace,
          name: unlike(name, (other) => isKnown(`${namespace}/${other}`)),
        },
        {
          label: "other namespace",
          namespace: unlike(namespace, (other) => isKnown(`${other}/${name}`)),
          name,
        },
        ...DEFECTS.map((defect) => ({ label: defect, namespace, name, defect })),
      ].map((caller) => ({ account, caller, intended: { pulumiCloud: false, role: false } })),
      ...others.map((other) => ({
        account,
        caller: { label: idOf(other), namespace: other.namespace, name: other.name },
        // Settings may grant the same access token to several service accounts; a role belongs to one.
        intended: { pulumiCloud: isGranted(other, account), role: false },
      })),
    ];
  });
}

/**
 * Returns the questions that the real services are asked: for each service account, itself, callers for which the cluster
 * can issue an ID token, and the next service account of the stack.
 *
 * @param allPairs every other service account instead of the next one.
 */
export function liveQuestions(accounts: ServiceAccount[], allPairs: boolean): Question[] {
  return accounts.flatMap((account, index) => {
    const { namespace, name, audienceRule } = account;
    const next = accounts[(index + 1) % accounts.length] ?? account;
    const others = new Set([`${namespace}/default`, ...(allPairs ? accounts : [next]).map(idOf)]);
    others.delete(idOf(account));
    return [
      { account, caller: { label: "itself", namespace, name }, intended: { pulumiCloud: true, role: true } },
      ...LIVE_DEFECTS.filter((defect) => audienceRule || defect !== "other audience").map((defect) => ({
        account,
        caller: { label: defect, namespace, name, defect },
        intended: { pulumiCloud: false, role: false },
      })),
      ...[...others].map((label) => {
        const [namespace = "", name = ""] = label.split("/");
        const other = accounts.find((candidate) => idOf(candidate) === label);
        const pulumiCloud = other !== undefined && isGranted(other, account);
        return { account, caller: { label, namespace, name }, intended: { pulumiCloud, role: false } };
      }),
    ];
  });
}

const LIVE_DEFECTS = ["other audience", "invalid signature"] as const;
const DEFECTS = ["other audience", "expired token", "invalid signature", "other cluster"] as const;

// Close to the name, so that a loose pattern shows; at most 63 characters.
function unlike(name: string, isTaken: (name: string) => boolean): string {
  let number = 2;
  const other = () => `${name.slice(0, 60)}-${number}`;
  while (other() === name || isTaken(other())) number += 1;
  return other();
}

/** Returns whether the settings of a service account grant it the token of another one. */
function isGranted(caller: ServiceAccount, { tokenType, tokenScope }: ServiceAccount): boolean {
  if (caller.tokenType !== tokenType) return false;
  const isAdmin = tokenType === "organization" && caller.tokenScope === "admin";
  return caller.tokenScope === tokenScope || isAdmin;
}

/** Returns the audience of the ID token with which a caller asks a service that expects `audience`. */
export function audienceOf({ defect }: Caller, audience: string): string {
  return defect === "other audience" ? `${audience}-2` : audience;
}

/**
 * Asks the questions.
 *
 * @param ask asks Pulumi Cloud and, if the service account has one, the role.
 * @param atOnce how many questions are open at a time.
 * @returns the questions with their answers, in the same order.
 */
export async function checkAccess(
  questions: Question[],
  ask: (question: Question) => Promise<Answers>,
  atOnce: number,
): Promise<Row[]> {
  const rows: Row[] = [];
  const queue = questions.entries();
  const work = async () => {
    for (const [index, question] of queue) rows[index] = { ...question, ...(await ask(question)) };
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return rows;
}

/** Returns each answer that is not the intended one, with what to do about it. */
export function findings(rows: Row[]): Finding[] {
  return rows.flatMap((row) => {
    const { intended, pulumiCloud, role } = row;
    const found: Finding[] = [];
    if (pulumiCloud.allowed !== intended.pulumiCloud) {
      found.push({ row, service: "Pulumi Cloud", answer: pulumiCloud, advice: pulumiCloudAdvice(row) });
    }
    if (role && role.allowed !== intended.role) {
      const advice = role.allowed
        ? "No setting allows this: check the trust policy, which --policies prints."
        : "Check the trust policy, which --policies prints.";
      found.push({ row, service: "IAM role", answer: role, advice });
    }
    return found;
  });
}

function pulumiCloudAdvice({ account, caller, pulumiCloud }: Row): string {
  if (!pulumiCloud.allowed)
    return "Check policyRules, tokenType, and the settings of the token; --policies prints the policy.";
  if (caller.defect === "other audience" && !account.audienceRule) return "To deny it, set audienceRule to true.";
  return "No setting allows this: check the allow policy, which --policies prints.";
}
