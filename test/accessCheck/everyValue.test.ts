// Each value of each resource of a component, deployed or new, changed one at a time: it is found, or it is shown as a change. What grants
// something is found.

import assert from "node:assert/strict";
import { test } from "node:test";
import { checkSteps, deployedPlan, type Inputs, type Key, newPlan, setAt, UNKNOWN } from "./draft";

/** The resources that grant something, with the values that decide nothing of it. */
const GRANTING = /^(OidcIssuer|Role|RolePolicyAttachment|PodIdentityAssociation|pulumiservice) /;
const NOT_GRANTING = / (description|namePrefix|forceDetachPolicies|thumbprints(\.0)?)$/;

/** What may change unnoticed, and why. */
type Exception = [reason: string, values: RegExp];

const EXCEPTIONS: Exception[] = [
  ["the stack stays where these say, and not the component", /^Stash pulumi-cloud\./],
  ["the SDK adds it, and it is empty", /^(pulumiservice|kubernetes) \S+ __internal$/],
  [
    "the component passes it on to resources, of which each value is compared or shown",
    /^PulumiCloudAccess access (image|jobPodSpec|createNamespaces$|serviceAccounts\.\d+\.command)\b/,
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

/** What may be anything in a new component, and why. */
const NEW_EXCEPTIONS: Exception[] = [
  ["it is the program's own", /^kubernetes cluster /],
  ["it grants nothing", /^(Stash|Namespace) /],
  ["it says what the resource's type says", / (apiVersion|kind)$/],
  [
    "it decides nothing of what is granted",
    / (description|namePrefix|forceDetachPolicies|automountServiceAccountToken|metadata(\.annotations(\..*)?)?)$/,
  ],
  [
    "it is the Job's own, and decides nothing of what its pod may do",
    /^Job \S+ (metadata(\.\w+)?|spec(\.(activeDeadlineSeconds|backoffLimit|template(\.metadata(\.\w+)?)?))?)$/,
  ],
  [
    "the pod then fails, or runs without the exchange",
    /^Job \S+ spec\.template\.spec\.(containers(\.0(\.name|\.command(\.0)?)?)?|nodeSelector\.kubernetes\.io\/os|volumes(\.0|\.1(\..*)?)?)$/,
  ],
  ["its name grants nothing", /^MutatingAdmissionPolicy(Binding)? \S+ metadata\.name$/],
  [
    "no field has the name of what is added",
    /^MutatingAdmissionPolicy \S+ spec\.(matchConditions|variables)\.0$/,
  ],
  ["a workload chooses it, and no rule requires it", /^PulumiCloudAccess .*\.tokenAudience$/],
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
      const { changes: unchanged } = checkSteps(steps);
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
          const isGranting = GRANTING.test(what) && !NOT_GRANTING.test(what);
          const noticed = noticedIn(steps.map((it) => (it === step ? updated : it)));
          const isShown = !isGranting && noticed.changes.join() !== unchanged.join();
          return noticed.findings.length > 0 || isShown ? [] : what;
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

function noticedIn(steps: Parameters<typeof checkSteps>[0]): ReturnType<typeof checkSteps> {
  try {
    return checkSteps(steps);
  } catch (error) {
    // Such as a component without service accounts: exit code 2.
    return { findings: [String(error)], changes: [] };
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
