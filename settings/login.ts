// The login of Pulumi Cloud, whose access token the provider sends to `pulumiApiUrl`.

import { readFileSync } from "node:fs";
import { homedir, userInfo } from "node:os";
import { join } from "node:path";
import { DEFAULT_API_URL } from "./names";
import type { Problem } from "./problems";
import { stackOrganization } from "./raw";

/** The Pulumi Cloud of the access token, as far as the environment or the CLI says. */
interface Login {
  /** What says so, such as a variable. */
  source: string;
  /** Undefined if it cannot be read. */
  url: string | undefined;
  /** The start of the advice, such as `Log in to`, which is the default. */
  change?: string;
}

/**
 * Returns a problem if the provider of Pulumi Cloud would send the access token of one Pulumi Cloud to another. It takes the
 * token of the current login, whatever its own URL is:
 * https://github.com/pulumi/pulumi-pulumiservice/blob/v1.3.0/provider/pkg/config/config.go
 *
 * @param apiUrl the origin that the provider sends requests to.
 */
export function loginProblems(apiUrl: string): Problem[] {
  const { source, url, change = "Log in to" } = currentLogin();
  const problemOf = (reason: string) => [{ path: ["pulumiApiUrl"], value: apiUrl, reason }];
  if (url === undefined) {
    return problemOf(
      `requires a login for it, but ${source}. Set PULUMI_ACCESS_TOKEN to a token of ${apiUrl}`,
    );
  }
  if (!isPulumiCloud(url) || originOf(url) === apiUrl) return [];
  return problemOf(
    `is not the Pulumi Cloud of your access token: ${source} is ${originOf(url)}. ` +
      `${change} ${apiUrl}, or correct pulumiApiUrl`,
  );
}

function currentLogin(): Login {
  const { PULUMI_API = "", PULUMI_ACCESS_TOKEN, PULUMI_BACKEND_URL = "" } = process.env;
  // The CLI passes the URL of the current login with its token to programs and providers: pulumi/pulumi at v3.276.0,
  // pkg/cmd/pulumi/backend/cloud_credentials.go.
  if (isPulumiCloud(PULUMI_API)) return { source: "the current login (PULUMI_API)", url: PULUMI_API };

  // Not with a self-managed backend, and not to an inline program of the Automation API.
  if (!PULUMI_ACCESS_TOKEN) return storedLogin();
  if (isPulumiCloud(PULUMI_BACKEND_URL)) return { source: "PULUMI_BACKEND_URL", url: PULUMI_BACKEND_URL };
  // After `pulumi login URL`, no variable of an inline program names the backend that receives the token.
  if (!PULUMI_BACKEND_URL && stackOrganization() !== undefined) return storedLogin();
  // A self-managed backend says nothing of the token.
  const source = "with a self-managed backend and without PULUMI_API, the default";
  return { source, url: DEFAULT_API_URL, change: "Set PULUMI_API to" };
}

/** https://github.com/pulumi/pulumi/blob/master/sdk/go/common/workspace/creds.go */
function storedLogin(): Login {
  const { PULUMI_CREDENTIALS_PATH, PULUMI_HOME } = process.env;
  const path = join(PULUMI_CREDENTIALS_PATH || PULUMI_HOME || join(home(), ".pulumi"), "credentials.json");
  try {
    const stored = JSON.parse(readFileSync(path, "utf8"));
    if ("$pulumiSecureStore" in stored) return { source: `${path} is encrypted`, url: undefined };
    return { source: `the current login in ${path}`, url: String(stored.current ?? "") };
  } catch {
    // The provider finds no token in it either.
    return { source: path, url: "" };
  }
}

/** Returns the home directory of the CLI, which is that of the user, and not always HOME. */
function home(): string {
  try {
    return userInfo().homedir;
  } catch {
    return homedir();
  }
}

/** Returns whether a backend is a Pulumi Cloud, as opposed to `file://` or `s3://`. */
function isPulumiCloud(url: string): boolean {
  return /^https?:/i.test(url) && URL.canParse(url);
}

function originOf(url: string): string {
  return new URL(url).origin;
}
