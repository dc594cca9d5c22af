// Asks Pulumi Cloud what this project relies on: docs/trial.md. Each Job is a question, and its name is what must be so. If it is not,
// `pulumi up` fails, and the last line of the Job's log says what was asked and what came. Each update asks again.

import { Job } from "@pulumi/kubernetes/batch/v1";
import * as core from "@pulumi/kubernetes/core/v1";
import { Provider } from "@pulumi/kubernetes/provider";
import { Config, getOrganization, type Resource } from "@pulumi/pulumi";
import { Team } from "@pulumi/pulumiservice/team";
import { DENIAL_RETRY_SECONDS, DENIED, jobPod } from "../../kubernetes/jobPod";
import { SCRIPT_PATH } from "../../kubernetes/tokenVolume";
import { createPulumiCloudProvider } from "../../oidcIssuer";
import { PulumiCloudAccess } from "../../pulumiCloudAccess";
import type { ServiceAccount } from "../../settings/account";

// Pulumi.yaml describes the settings, and has the defaults.
const config = new Config();
const name = config.require("name");
const issuerUrl = config.require("issuerUrl");
const pulumiApiUrl = config.require("pulumiApiUrl");
const image = config.require("image");
const audienceRule = config.requireBoolean("audienceRule");
const isRemoved = config.requireBoolean("removed");
const grant = config.requireObject<Omit<ServiceAccount, "namespace" | "name">>("grant");
// For a stack whose state is not in Pulumi Cloud.
const organization = config.get("organization") ?? getOrganization();
const ownAudience = `urn:pulumi:org:${organization}`;

const kubernetes = new Provider("kubernetes", {
  context: config.require("context"),
  clusterIdentifier: issuerUrl,
  enableConfigMapMutable: true,
  // Explicit, so that PULUMI_K8S_UPSERT_EXISTING_OBJECTS can't let the program adopt, and later delete, what exists.
  upsertExistingObjects: false,
});
const namespace = new core.Namespace("namespace", { metadata: { name } }, { provider: kubernetes });
const serviceAccounts = ["unlisted", "temporary"].map((account) => {
  const metadata = { namespace: name, name: account };
  return new core.ServiceAccount(account, { metadata }, { provider: kubernetes, dependsOn: namespace });
});

const createsTeams = grant.tokenType === "team" && grant.teamName === undefined;
const teamNames = createsTeams ? [name, `${name}-other`] : [];
const pulumiCloud = createPulumiCloudProvider("pulumi-cloud", pulumiApiUrl, {});
const teams = teamNames.map((teamName) => {
  const args = { organizationName: organization, teamType: "pulumi", name: teamName };
  return new Team(teamName, args, { provider: pulumiCloud });
});

/** Returns an entry, whose Job says in its last line what came. */
function entryOf(account: string, teamName: string): ServiceAccount {
  const came = `AS IT MUST BE: listed-account-is-granted. ${name}/${account} asked for its token. What came: the token of`;
  const command = ["bash", "-c", `owner=$(pulumi whoami) && echo "${came} $owner"`];
  return { ...grant, ...(createsTeams && { teamName }), namespace: name, name: account, command };
}

const trial = entryOf("trial", name);
const other = entryOf("other", `${name}-other`);
// Its service account must still exist once the entry is removed. The component's Job would look for it in the first preview.
const temporary = { ...entryOf("temporary", name), createServiceAccount: false, runJob: false };
const listed = new PulumiCloudAccess(
  "listed-account-is-granted",
  {
    organization,
    issuerName: name,
    issuerUrl,
    pulumiApiUrl,
    audienceRule,
    image,
    maxExpirationSeconds: 600,
    serviceAccounts: isRemoved ? [trial, other] : [trial, other, temporary],
  },
  // With its own provider of Pulumi Cloud, since it then checks that your login is for `pulumiApiUrl`.
  { providers: [kubernetes], dependsOn: [...teams, ...serviceAccounts] },
);

// Three times, since something between the cluster and Pulumi Cloud may answer some of the requests. Kubernetes leaves $(…) as it is
// if that is not the name of a variable.
const ASK = `asked=$1 expected=$2 patience=$3
for attempt in 1 2 3; do
  while
    messages=$("$0" true 2>&1)
    code=$?
    ((code == 0 && SECONDS < patience))
  do
    sleep 3
  done
  ((code == expected)) || break
done
case $code in
  "$expected") verdict='AS IT MUST BE' ;;
  0) verdict='GRANTED, BUT MUST BE DENIED' ;;
  ${DENIED}) verdict='DENIED, BUT MUST BE GRANTED' ;;
  *) verdict="UNDECIDED (exit code $code)" ;;
esac
came=\${messages##*exchange-token: }
echo "$verdict: $asked. What came, after $SECONDS s: \${came%%$'\\n'*}"
((code == expected))`;

interface Question {
  question: string;
  /** The service account that asks for the token of `trial`. */
  account: string;
  /** The exit code of the exchange script. By default, that of a denial. */
  expected?: number;
  audience?: string;
  /** How long a token may still be granted, in seconds, where this update has changed the answer. */
  patience?: number;
  notAsked?: string | false;
}

const questions: Question[] = [
  { question: "unlisted-account-is-denied", account: "unlisted" },
  {
    question: "another-accounts-token-is-denied",
    account: "other",
    notAsked: !createsTeams && "both have the same token, unless grant is { tokenType: team }",
  },
  {
    question: "another-audience-is-denied",
    account: "trial",
    audience: "sts.amazonaws.com",
    notAsked: !audienceRule && "audienceRule is false",
  },
  {
    question: "temporary-account-is-granted",
    account: "temporary",
    expected: 0,
    notAsked: isRemoved && "removed",
  },
  {
    question: "removed-account-is-denied",
    account: "temporary",
    patience: DENIAL_RETRY_SECONDS,
    notAsked: !isRemoved && "pulumi config set removed true && pulumi up",
  },
];

/** Creates the Job of a question. It succeeds if the exchange script ends with the expected exit code. */
function ask(
  { question, account, expected = DENIED, audience = ownAudience, patience = 0 }: Question,
  dependsOn: Resource[],
): Job {
  const configMap = listed.serviceAccounts[`${name}/trial`]?.configMap ?? "";
  const exchange = { serviceAccountName: account, configMap, tokenAudience: audience };
  const pod = jobPod({ ...exchange, image, command: [], podSpec: {} });
  const asked = `${question}. ${name}/${account}, with an ID token for ${audience}, asked for the token of ${name}/trial`;
  const command = ["bash", "-c", ASK, SCRIPT_PATH, asked, String(expected), String(patience)];
  const containers = pod.containers.map((container) => ({ ...container, command, args: [] }));
  const metadata = { namespace: name, name: question, annotations: { "pulumi.com/replaceUnready": "true" } };
  const spec = { backoffLimit: 0, activeDeadlineSeconds: 300, template: { spec: { ...pod, containers } } };
  const options = { provider: kubernetes, dependsOn, deleteBeforeReplace: true };
  // Each update asks again.
  return new Job(question, { metadata, spec }, { ...options, replacementTrigger: Date.now() });
}

const asked = questions.filter(({ notAsked }) => !notAsked);
const jobs = asked.map((question) => ask(question, [listed]));
// Or else, everything could be denied by now.
const control: Question = { question: "listed-account-is-still-granted", account: "trial", expected: 0 };
const last = ask(control, jobs);

/** If `pulumi up` fails, this and the time are of an earlier update. */
export const proven = last.id.apply(() => [
  "listed-account-is-granted",
  ...(audienceRule ? ["rule-on-aud-matches-its-list"] : []),
  ...[...asked, control].map(({ question }) => question),
]);
export const provenAt = last.id.apply(() => new Date().toISOString());
/** With the reasons. */
export const notAsked = {
  ...(!audienceRule && { "rule-on-aud-matches-its-list": "audienceRule is false" }),
  ...Object.fromEntries(questions.flatMap((it) => (it.notAsked ? [[it.question, it.notAsked]] : []))),
};
