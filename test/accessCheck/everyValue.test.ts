// Each value of each resource of a deployed component, changed one at a time: it is found, or it is shown as a change. What grants
// something is found.

import assert from "node:assert/strict";
import { test } from "node:test";
import { checkSteps, deployedPlan, type Inputs, type Key, setAt, UNKNOWN } from "./draft";

/** The resources that grant something, with the values that decide nothing of it. */
const GRANTING = /^(OidcIssuer|Role|RolePolicyAttachment|PodIdentityAssociation|pulumiservice) /;
const NOT_GRANTING = / (description|namePrefix|forceDetachPolicies|thumbprints(\.0)?)$/;

/** What may change unnoticed, and why. */
const EXCEPTIONS: [reason: string, values: RegExp][] = [
  ["the stack stays where these say, and not the component", /^Stash pulumi-cloud\./],
  ["the SDK adds it, and it is empty", /^(pulumiservice|kubernetes) \S+ __internal$/],
  [
    "the component passes it on to resources, of which each value is compared or shown",
    /^PulumiCloudAccess access (image|jobPodSpec|createNamespaces$|serviceAccounts\.\d+\.command)\b/,
  ],
  [
    "no setting has the name of what is added",
    /^PulumiCloudAccess access teams(\.\d+(\.(stacks|environments)(\.\d+)?)?)?$/,
  ],
  [
    "the default means the same",
    /^PulumiCloudAccess access serviceAccounts\.\d+\.(policyRules|rolePolicyArns|audienceRule|createServiceAccount|runJob|injectToken)$/,
  ],
  [
    "it is a checksum of the ConfigMap, of which each value is shown",
    /^Job .*\.pulumi\.com\/token-exchange-checksum$/,
  ],
];

for (const [how, change] of [
  ["replaced", replaced],
  ["removed", () => undefined],
  ["not known", () => UNKNOWN],
] satisfies [string, (value: unknown) => unknown][]) {
  test(`each value is found or shown if it is ${how}`, async () => {
    const { steps } = await deployedPlan();
    const unnoticed = steps.flatMap((step) => {
      const { newState, urn } = step;
      const inputs = newState?.inputs ?? {};
      // URN::TYPE::NAME, and a name can contain colons.
      const [, , types = "", ...name] = urn.split("::");
      return [...pathsIn(inputs)].flatMap((path) => {
        const changed = structuredClone(inputs);
        setAt(changed, path, change(valueAt(inputs, path)));
        const updated = { ...step, op: "update", newState: { ...newState, inputs: changed } };
        const what = `${types.split(":").at(-1)} ${name.join("::")} ${path.join(".")}`;
        const isGranting = GRANTING.test(what) && !NOT_GRANTING.test(what);
        return isNoticed(
          steps.map((it) => (it === step ? updated : it)),
          isGranting,
        )
          ? []
          : what;
      });
    });
    const isExcepted = (value: string) => EXCEPTIONS.some(([, values]) => values.test(value));
    assert.deepEqual(
      unnoticed.filter((value) => !isExcepted(value)),
      [],
    );
  });
}

function isNoticed(steps: Parameters<typeof checkSteps>[0], isGranting: boolean): boolean {
  try {
    const { findings, changes } = checkSteps(steps);
    return findings.length > 0 || (changes.length > 0 && !isGranting);
  } catch {
    // Such as a component without service accounts: exit code 2.
    return true;
  }
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
