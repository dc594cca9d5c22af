// Settings that are outputs: each is checked once it is known.

import * as pulumi from "@pulumi/pulumi";
import type * as v from "valibot";
import { settingsEntries, type ValidSettings } from "./access";
import { accountEntries, audienceFor, pattern } from "./account";
import { type ClusterInputs, clusterInputEntries } from "./cluster";
import type { Path, Problem } from "./problems";
import { check, inputSchema, isLater } from "./validation";

/**
 * Returns valid settings whose outputs fail if they are invalid, once they are known.
 *
 * @param errorOf returns the error to fail with.
 */
export function withCheckedOutputs<Settings extends ValidSettings & ClusterInputs>(
  settings: Settings,
  errorOf: (problem: Problem) => Error,
): Settings {
  const entries: v.ObjectEntries = { ...settingsEntries, ...clusterInputEntries };
  const tokenAudience = audienceFor(settings.pulumiApiUrl);
  const accountSchemas: v.ObjectEntries = { ...accountEntries, tokenAudience };
  const serviceAccounts = settings.serviceAccounts.map((account, index) => {
    const path: Path = ["serviceAccounts", index];
    const policyRules = checkOutputs(
      account.policyRules,
      () => inputSchema(pattern),
      [...path, "policyRules"],
      errorOf,
    );
    return { ...checkOutputs(account, (key) => accountSchemas[key], path, errorOf), policyRules };
  });
  return checkOutputs({ ...settings, serviceAccounts }, (key) => entries[key], [], errorOf);
}

const SECRET =
  "must not be a secret, because Pulumi Cloud and the cluster store it in plaintext. If it is not confidential, " +
  "remove the mark with pulumi.unsecret";

const WITHOUT_VALUE = "is an output without a value. Leave the setting out, or set a value";

/**
 * Returns settings whose outputs fail if they are invalid. Each is checked by its own schema, once it is known.
 *
 * @param settings of one object, as `check` returns them.
 * @param schemaOf returns the schema of a setting.
 * @param path of the object.
 * @param errorOf returns the error to fail with.
 */
function checkOutputs<Settings extends object>(
  settings: Settings,
  schemaOf: (key: string) => v.GenericSchema | undefined,
  path: Path,
  errorOf: (problem: Problem) => Error,
): Settings {
  const checkOutput = (key: string, value: unknown) => {
    const schema = schemaOf(key);
    if (!schema || !isLater(value)) return value;

    const reject = (problem: Problem) => {
      throw errorOf({ ...problem, path: [...path, key, ...problem.path] });
    };
    // A preview knows whether a value is secret, even if it does not know the value.
    const notSecret = pulumi.output(pulumi.isSecret(pulumi.output(value))).apply((secret) => {
      return secret ? reject({ path: [], reason: SECRET }) : value;
    });
    return notSecret.apply((known) => {
      if (known === undefined || known === null) return reject({ path: [], reason: WITHOUT_VALUE });
      const { problems } = check(schema, known);
      return problems[0] ? reject({ ...problems[0], value: known }) : known;
    });
  };
  const checked = Object.entries(settings).map(([key, value]) => [key, checkOutput(key, value)]);
  return Object.fromEntries(checked) as Settings;
}

/** What to write instead of an output, for settings that name resources or decide which exist. */
export const INSTEAD_OF_OUTPUTS = {
  namespace:
    "Write the name as a string. If the program creates the namespace, add it to dependsOn of this component",
  name:
    "Write the name as a string. If the program creates the service account, set createServiceAccount to false, add it to " +
    "dependsOn of this component, and set runJob to false for the first update",
  policyRules: "Only its values can be outputs",
  rolePolicyArns:
    "If the program creates the policy, attach it to roleName of the output serviceAccounts with a RolePolicyAttachment",
};
