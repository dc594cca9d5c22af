// Each value of a component, deployed or new, changed one at a time: a rule reports it, or it is listed here, with the reason.

import assert from "node:assert/strict";
import { test } from "node:test";
import { runRules } from "../../policy/runRules";
import { type Fields, isUnknown, UNKNOWN, type Value } from "../../policy/values";
import { deployedStack, type Key, labelOf, newStack, setAt } from "./draft";

/** How a value changes. */
const CHANGES = {
  replaced,
  removed: () => undefined,
  unknown: () => UNKNOWN,
} satisfies Record<string, (value: Value) => Value | undefined>;

/** What no rule reports, and why; if it is only by one change, by which. */
const EXCEPTIONS: { because: string; values: RegExp; only?: keyof typeof CHANGES }[] = [
  { because: "it is not the component's", values: /^(Stash first-deployment|kubernetes cluster) / },
  {
    because: "it keeps where it was first deployed, and grants nothing",
    values: /^Stash access\.first-deployment /,
  },
  { because: "the type of the resource decides it", values: /^[A-Z]\w+ \S+ (apiVersion|kind)$/ },
  {
    because: "the engine does not send it, and the provider does not use it",
    values: /^(Role|RolePolicyAttachment) \S+ __defaults$/,
  },
  { because: "it names and describes the role", values: /^Role \S+ (description|namePrefix|path)$/ },
  {
    because: "it decides what happens to a role that is deleted",
    values: /^Role \S+ forceDetachPolicies$/,
  },
  {
    because: "the registered ones stay, and are compared only if the certificate cannot be verified",
    values: /^OidcIssuer \S+ thumbprints(\.0)?$/,
  },
  {
    because: "labels and annotations that identify no one",
    values: /^\w+ \S+ (spec\.template\.)?metadata(\.(annotations|labels)(\..*)?)?$/,
  },
  {
    because: "a name that identifies no one",
    values: /^(Job|MutatingAdmissionPolicy(Binding)?) \S+ metadata\.name$/,
  },
  { because: "it decides when a Job ends", values: /^Job \S+ spec\.(activeDeadlineSeconds|backoffLimit)$/ },
  {
    because: "it adds a key that Kubernetes does not know",
    values: /^Job \S+ spec(\.template)?$/,
    only: "replaced",
  },
  {
    because: "what is missing grants nothing",
    values:
      /^PulumiCloudAccess access (createNamespaces|serviceAccounts\.\d\.(rolePolicyArns|awsRole|runJob))$/,
  },
  {
    because: "nothing uses it",
    values: /^PulumiCloudAccess access (rolePath|serviceAccounts\.3\.command(\.0)?)$/,
  },
  {
    because: "it adds a setting that nothing uses",
    values: /^PulumiCloudAccess access serviceAccounts\.\d$/,
    only: "replaced",
  },
  {
    because: "the default means the same",
    values:
      /^(PulumiCloudAccess access (jobPodSpec|serviceAccounts\.\d\.(injectToken|policyRules))|Role \S+ maxSessionDuration)$/,
    only: "removed",
  },
  {
    because: "the component accepts plain values only",
    values:
      /^PulumiCloudAccess access (audienceRule|serviceAccounts\.\d\.(createServiceAccount|injectToken))$/,
    only: "unknown",
  },
  {
    because:
      "it is an output of the component's own resource, and compared once it is known, before it is used",
    values:
      /^(RolePolicyAttachment \S+ role|PodIdentityAssociation \S+ roleArn|Job \S+ .*configMap\.name|\w+Binding \S+ spec\.policyName)$/,
    only: "unknown",
  },
];

for (const [which, stack] of Object.entries({ deployed: deployedStack, new: newStack })) {
  for (const [how, change] of Object.entries(CHANGES)) {
    test(`each value of a ${which} stack is reported or listed if it is ${how}`, async () => {
      const draft = await stack();
      const unreported = draft.resources.flatMap((resource, index) => {
        return pathsIn(resource.inputs)
          .filter((path) => !isUnknown(valueAt(resource.inputs, path)))
          .filter((path) => {
            const inputs = structuredClone(resource.inputs);
            setAt(inputs, path, change(valueAt(inputs, path)));
            return runRules(draft.resources.with(index, { ...resource, inputs })).length === 0;
          })
          .map((path) => `${labelOf(resource)} ${path.join(".")}`);
      });
      const isListed = (value: string) =>
        EXCEPTIONS.some(({ values, only = how }) => only === how && values.test(value));
      assert.deepEqual(
        unreported.filter((value) => !isListed(value)),
        [],
      );
    });
  }
}

/** Returns the path of each value, and of what is in it. */
function pathsIn(value: Value | undefined, path: Key[] = []): Key[][] {
  const own = path.length > 0 ? [path] : [];
  if (typeof value !== "object" || value === null) return own;
  return [...own, ...Object.entries(value).flatMap(([key, inside]) => pathsIn(inside, [...path, key]))];
}

function valueAt(inputs: Fields, path: Key[]): Value {
  return path.reduce<Value>((value, key) => (value as Fields)[key] as Value, inputs as Value);
}

function replaced(value: Value): Value {
  if (typeof value === "string") return `${value}x`;
  if (typeof value === "number") return value + 1;
  if (typeof value === "boolean") return !value;
  return Array.isArray(value) ? [...value, "x"] : { ...value, x: "x" };
}
