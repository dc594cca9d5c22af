// The pages name only settings that exist, every exit code of the exchange script, alert rules that match its Jobs, and
// everything that a trial creates.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parse } from "yaml";
import { EXAMPLES, exampleOf } from "../support/examples";
import { codeIn, ROOT, read, sectionOf } from "../support/project";
import { only, up } from "../support/stack";

const PAGES = [
  ...["SECURITY", "alternatives", "how-it-works", "import", "operator", "troubleshooting"].map(
    (it) => `${it}.md`,
  ),
  ...readdirSync(join(ROOT, "docs/workloads")).map((page) => `workloads/${page}`),
].map((page) => `docs/${page}`);

/** Names of other programs, in the form of a setting. */
const OTHER_NAMES = `
  accessTokenSecret activeDeadlineSeconds actorName actorUrn apiUrl destroyOnFinalize envFrom envRefs envSecrets
  environmentVariables gitAuth honorLabels securityProfile tokenExchangePod tokenName volumeMount workspaceReclaimPolicy
`
  .trim()
  .split(/\s+/);

test("the pages name only settings that exist", () => {
  const named = PAGES.flatMap((page) => {
    return [...read(page).matchAll(/`([a-z]+(?:[A-Z][a-z]*)+)(?:: [^`]*)?`/g)].map(([, name = ""]) => name);
  });
  const schema = JSON.parse(read("settings/stack.schema.json"));
  const manifests = EXAMPLES.map((file) => exampleOf(file).manifests);
  const known = [...keysOf([schema, manifests]), ...OTHER_NAMES];
  assert.ok(named.includes("serviceAccounts"));
  assert.deepEqual(
    named.filter((name) => !known.includes(name)),
    [],
  );
});

test("docs/troubleshooting.md lists the exit codes of the exchange script", () => {
  const section = sectionOf(read("docs/troubleshooting.md"), "### Exit codes");
  const listed = [...section.matchAll(/^\| (\d+) \|/gm)].map(([, code]) => code);

  // Those of sysexits.h, in the comment at the beginning of the script.
  const [, codes = ""] = read("scripts/exchange-token.sh").split("Exit codes, before the command's own:");
  const [comment = ""] = codes.split(/\n(?!#)/);
  const documented = [...comment.matchAll(/^# +(6[4-9]|7[0-8]) /gm)].map(([, code]) => code);
  assert.ok(documented.length >= 6);
  assert.deepEqual(listed, documented);
});

test("the alert of docs/workloads/token-check.md is about the Jobs of token-check.yaml, and lasts until the next check", () => {
  const [{ metadata, spec } = assert.fail()] = exampleOf("token-check.yaml").manifests;
  const { namespace, name } = metadata ?? {};
  const [alert = ""] = codeIn(read("docs/workloads/token-check.md"), "yaml");
  const rule = parse(alert);
  // By default, kube-prometheus-stack selects rules by this label.
  assert.ok(rule.metadata.labels.release);
  const [failed, missing] = rule.spec.groups[0].rules.map(({ expr }: { expr: string }) => expr);

  // A CronJob's Jobs have its name and the minute of their schedule.
  const jobs = `namespace="${namespace}", job_name=~"${name}-[0-9]+", condition="true"`;
  assert.equal(failed, `kube_job_failed{${jobs}} == 1`);
  const lastSuccess = `kube_cronjob_status_last_successful_time{namespace="${namespace}", cronjob="${name}"}`;
  assert.equal(missing, `time() - ${lastSuccess} > 3600 or absent(${lastSuccess})`);

  // A failed Job is there until the next one can have failed, and gone before the second next one starts.
  const { activeDeadlineSeconds, ttlSecondsAfterFinished } = spec.jobTemplate.spec;
  const interval = Number(/^\*\/(\d+) \* \* \* \*$/.exec(spec.schedule)?.[1]) * 60;
  assert.ok(ttlSecondsAfterFinished >= interval + activeDeadlineSeconds);
  assert.ok(ttlSecondsAfterFinished + activeDeadlineSeconds < 2 * interval);
});

test("docs/trial.md lists what a trial creates, which needs no IAM OIDC provider, and its report names the Job", async (t) => {
  const [file = ""] = codeIn(read("docs/trial.md"), "yaml");
  const cluster = { name: "my-cluster", hasOidcProvider: false };
  const stack = await up(t, parse(file).config, { runJobs: true, cluster });

  const types = stack.registered.map(({ type }) => type);
  assert.deepEqual(types.filter((type) => /^(aws|kubernetes|pulumiservice):/.test(type)).sort(), [
    "kubernetes:batch/v1:Job",
    "kubernetes:core/v1:ConfigMap",
    "kubernetes:core/v1:ServiceAccount",
    "pulumiservice:index:OidcIssuer",
  ]);
  const { namespace, name } = only<{ metadata: Record<string, string> }>(stack, "Job").inputs.metadata;
  const report = read(".github/ISSUE_TEMPLATE/trial.yml");
  assert.ok(report.includes(`kubectl logs --namespace ${namespace} job/${name}`));
});

/** Returns the keys at every level of a value. */
function keysOf(value: unknown): string[] {
  if (Array.isArray(value)) return value.flatMap(keysOf);
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, nested]) => [key, ...keysOf(nested)]);
}
