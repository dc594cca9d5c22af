// Checks the settings of service accounts as the stack and the component do, and returns the problems or the accounts.

import assert from "node:assert/strict";
import { type Account, accessEntries, accessRules, withDefaults } from "../../settings/access";
import { check, type Problem, settings } from "../../settings/validation";

const REQUIRED = { organization: "acme", issuerName: "eks" };

/** Returns the problems of settings, on top of the required ones. */
export function problemsOf(given: object): Problem[] {
  return checkSettings(given).problems;
}

/** Returns service accounts with every default filled in. */
export function accepted(serviceAccounts: object[]): Account[] {
  const { settings: checked, problems } = checkSettings({ serviceAccounts });
  return checked ? withDefaults(checked).serviceAccounts : assert.fail(JSON.stringify(problems));
}

function checkSettings(given: object) {
  return check(settings(accessEntries), { ...REQUIRED, ...given }, accessRules);
}
