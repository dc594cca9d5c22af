// Who is granted a token in the simulation: each service account of the settings, and no other one.

import { idOf, type Kubernetes } from "../test/environment/kubernetes";
import type { Registration } from "../test/environment/runProgram";
import type { PodRun } from "./pod";

const COMPONENT = "eks-pulumi-oidc:index:PulumiCloudAccess";
const JOB = "kubernetes:batch/v1:Job";

/** An entry of `serviceAccounts` with every default, as the component registers it. */
export interface AccountSettings {
  /** `NAMESPACE/NAME` */
  id: string;
  namespace: string;
  name: string;
  tokenType: string;
  tokenAudience: string;
  runJob: boolean;
  createServiceAccount: boolean;
  policyRules: Record<string, string>;
  /** Whose access token it is granted, such as `team:team-a`. */
  owner: string;
}

/** Returns the service accounts of the component. @throws Error if the program has none. */
export function accountsOf(registered: Registration[]): AccountSettings[] {
  const component = registered.find(({ type }) => type === COMPONENT);
  if (!component) throw new Error("The program registers no PulumiCloudAccess.");
  const entries = component.inputs.serviceAccounts as Omit<AccountSettings, "id" | "owner">[];
  return entries.map((entry) => ({
    ...entry,
    id: idOf(entry),
    owner: ownerOf(entry),
  }));
}

// As in allow policies, of which the program has its own function.
function ownerOf(entry: object): string {
  const { tokenType, userLogin, teamName, runnerId, organizationRoleId, organizationAdmin } = entry as Owner;
  switch (tokenType) {
    case "personal":
      return `user:${userLogin}`;
    case "team":
      return `team:${teamName}`;
    case "runner":
      return `runner:${runnerId}`;
    default:
      if (organizationRoleId) return `organization (role ${organizationRoleId})`;
      return organizationAdmin ? "organization (admin)" : "organization";
  }
}

interface Owner {
  tokenType: string;
  userLogin?: string;
  teamName?: string;
  runnerId?: string;
  organizationRoleId?: string;
  organizationAdmin?: boolean;
}

/** What is not as the settings of a service account say. */
export interface Finding {
  account: string;
  text: string;
}

/** A service account that no entry has. */
const UNLISTED = "unlisted-service-account";

/** The exit code of the exchange script for a denied exchange: scripts/exchange-token.sh. */
const DENIED = 77;

const ADVICE = "Check policyRules, tokenType, and the settings of the token.";

/**
 * Tests for each service account that it is granted its token, by its Job or else by an exchange, and that a service account
 * without an entry in the same namespace is denied this token.
 *
 * @param registered by the program, with the Jobs, which have run already.
 * @returns what is not so.
 */
export async function testExchanges(
  accounts: AccountSettings[],
  registered: Registration[],
  kubernetes: Pick<Kubernetes, "exchange">,
): Promise<Finding[]> {
  const findings = await Promise.all(
    accounts.map(async (account) => [
      ...(await grantFindings(account, registered, kubernetes)),
      ...(await denialFindings(account, kubernetes)),
    ]),
  );
  return findings.flat();
}

async function grantFindings(
  account: AccountSettings,
  registered: Registration[],
  kubernetes: Pick<Kubernetes, "exchange">,
): Promise<Finding[]> {
  if (account.runJob) {
    const job = registered.find(({ type, inputs }) => type === JOB && isJobOf(account, inputs));
    if (job?.failure === undefined) return [];
    const reason = job.failure.split("\n")[0];
    return [
      { account: account.id, text: `Its Job fails, so \`pulumi up\` would fail: ${reason}. ${ADVICE}` },
    ];
  }
  const run = await kubernetes.exchange(account, account.tokenAudience);
  if (run.exitCode === 0) return [];
  return [{ account: account.id, text: `None of its pods is granted a token: ${reasonOf(run)}. ${ADVICE}` }];
}

async function denialFindings(
  account: AccountSettings,
  kubernetes: Pick<Kubernetes, "exchange">,
): Promise<Finding[]> {
  const run = await kubernetes.exchange(account, account.tokenAudience, UNLISTED);
  if (run.exitCode === DENIED) return [];
  const other = `${account.namespace}/${UNLISTED}, which has no entry,`;
  const text =
    run.exitCode === 0
      ? `${other} is granted its token.`
      : `${other} is not denied its token: ${reasonOf(run)}`;
  return [{ account: account.id, text }];
}

function isJobOf({ namespace, name }: AccountSettings, inputs: Registration["inputs"]): boolean {
  const { metadata, spec } = inputs as JobInputs;
  return metadata?.namespace === namespace && spec?.template?.spec?.serviceAccountName === name;
}

interface JobInputs {
  metadata?: { namespace?: string };
  spec?: { template?: { spec?: { serviceAccountName?: string } } };
}

function reasonOf({ log }: PodRun): string {
  return log[0] ?? "the exchange script printed nothing";
}
