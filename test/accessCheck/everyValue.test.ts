// Each value of each resource of a component, deployed or new, changed one at a time: it is found, or it is shown as a change. What grants
// something is found.

import assert from "node:assert/strict";
import { test } from "node:test";
import { comparisonOf } from "../../accessCheck/compare";
import { isRemaining, readComponents } from "../../accessCheck/components";
import { planFrom, type Step } from "../../accessCheck/plan";
import { checkSteps, deployedPlan, type Inputs, type Key, newPlan, setAt, UNKNOWN } from "./draft";

/** The resources that grant something, with what is only listed. */
const GRANTING = /^(OidcIssuer|Role|RolePolicyAttachment|PodIdentityAssociation|pulumiservice) /;
const LISTED = / (thumbprints(\.0)?|(spec\.template\.)?metadata\.(annotations|labels)(\..*)?)$/;

/** What may change unnoticed, and why. */
type Exception = [reason: string, values: RegExp];

const EXCEPTIONS: Exception[] = [
  ["the provider notes there which inputs are its own", /^(Role|RolePolicyAttachment) \S+ __defaults$/],
  [
    "the default means the same",
    /^PulumiCloudAccess access (jobPodSpec|audienceRule|serviceAccounts\.\d+\.(policyRules|rolePolicyArns|createServiceAccount|runJob|injectToken|awsRole))$/,
  ],
  [
    "nothing uses it: it has no Job, and no rule",
    /^PulumiCloudAccess access serviceAccounts\.3\.(command(\.0)?|tokenAudience)$/,
  ],
];

/** What may be anything in a new component, and why. */
const NEW_EXCEPTIONS: Exception[] = [
  [
    "it is the program's own, of which every resource is listed",
    /^(kubernetes cluster|Stash pulumi-cloud\.\w+) /,
  ],
  ["annotations and labels are listed only if there are some", LISTED],
];

for (const [which, plan, exceptions] of [
  ["deployed", deployedPlan, EXCEPTIONS],
  ["new", newPlan, [...EXCEPTIONS, ...NEW_EXCEPTIONS]],
] satisfies [string, typeof newPlan, Exception[]][]) {
  for (const [how, change] of [
    ["replaced", replaced],
    ["removed", () => undefined],
    ["not known", () => UNKNOWN],
  ] satisfies [string, (value: unknown) => unknown][]) {
    test(`each value of a ${which} component is found or shown if it is ${how}`, async () => {
      const { steps } = await plan();
      const unchanged = shownIn(steps);
      const unnoticed = steps.flatMap((step) => {
        const { newState, oldState, urn } = step;
        const inputs = newState?.inputs ?? {};
        // URN::TYPE::NAME, and a name can contain colons.
        const [, , types = "", ...name] = urn.split("::");
        const paths = [...pathsIn(inputs)].filter((path) => valueAt(inputs, path) !== UNKNOWN);
        return paths.flatMap((path) => {
          const changed = structuredClone(inputs);
          setAt(changed, path, change(valueAt(inputs, path)));
          const op = oldState ? "update" : "create";
          const updated = { ...step, op, newState: { ...newState, inputs: changed } };
          const what = `${types.split(":").at(-1)} ${name.join("::")} ${path.join(".")}`;
          const isGranting = GRANTING.test(what) && !LISTED.test(what);
          // What is not known is never "as its settings say".
          const isOfComponent = urn.includes("PulumiCloudAccess") && !LISTED.test(what);
          const mayBeShown = how === "not known" ? !isOfComponent : !isGranting;
          const changedSteps = steps.map((it) => (it === step ? updated : it));
          const isNoticed =
            isFound(changedSteps, how === "not known") || (mayBeShown && shownIn(changedSteps) !== unchanged);
          return isNoticed ? [] : what;
        });
      });
      const isExcepted = (value: string) => exceptions.some(([, values]) => values.test(value));
      assert.deepEqual(
        unnoticed.filter((value) => !isExcepted(value)),
        [],
      );
    });
  }
}

/** Returns whether something is found, or nothing could be compared. @param orUnknown or is not known yet. */
function isFound(steps: Step[], orUnknown: boolean): boolean {
  try {
    return readComponents(planFrom(steps))
      .filter(isRemaining)
      .some((component) => {
        const { findings, unknown, unknownRoles } = comparisonOf(component);
        return findings.length > 0 || (orUnknown && unknown.length + unknownRoles.length > 0);
      });
  } catch {
    // Such as a component without service accounts: exit code 2.
    return true;
  }
}

function shownIn(steps: Step[]): string {
  const { settings, rows } = checkSteps(steps);
  return [...settings, ...rows].join("\n");
}

function* pathsIn(value: unknown, path: Key[] = []): Generator<Key[]> {
  if (path.length > 0) yield path;
  if (typeof value !== "object" || value === null) return;
  for (const [key, element] of Object.entries(value)) yield* pathsIn(element, [...path, key]);
}

function valueAt(inputs: Inputs, path: Key[]): unknown {
  return path.reduce((value: unknown, key) => (value as Inputs)[key], inputs);
}

function replaced(value: unknown): unknown {
  if (typeof value === "string") return `${value}x`;
  if (typeof value === "number") return value + 1;
  if (typeof value === "boolean") return !value;
  return Array.isArray(value) ? [...value, "x"] : { ...Object(value), x: "x" };
}
