// Names, ARNs, and URLs in AWS, Kubernetes, and Pulumi Cloud: what settings in several places have to match.

import * as v from "valibot";
import { stringSchema } from "./validation";

/** https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names */
export const kubernetesName = stringSchema(
  /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/,
  "must be 1 to 63 lowercase letters, digits, or hyphens, and must not begin or end with a hyphen",
);

/** Every cluster has these: https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/ */
export const INITIAL_NAMESPACES = ["default", "kube-system", "kube-public", "kube-node-lease"];

export const policyArn = stringSchema(
  /^arn:aws(-[a-z]+)*:iam::([0-9]{12}|aws):policy\/([\w+=,.@-]+\/)*[\w+=,.@-]+$/,
  ({ input }) => {
    const isRole = /^arn:[^:]*:iam::[^:]*:role\//.test(input);
    return isRole ? "is the ARN of a role, not of an IAM policy" : "must be the ARN of an IAM policy";
  },
);

// https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html
// "*", "?", and "$" would be wildcards and variables in the pipeline's policies.
export const rolePath = stringSchema(
  /^\/([\w+=,.@-]+\/)*$/,
  'must be "/", or begin and end with "/", such as "/pulumi/"',
);

/** Characters that no one sees, such as control characters and zero-width spaces. */
export const INVISIBLE = "\\p{C}\\p{Default_Ignorable_Code_Point}";

/**
 * The pattern of PROJECT/STACK, and of PROJECT/NAME for an environment of Pulumi ESC:
 * https://www.pulumi.com/docs/iac/concepts/projects/project-file/ and https://www.pulumi.com/docs/iac/concepts/stacks/
 */
export const PROJECT_PATH = "[\\w.-]{1,100}/[\\w.-]{1,100}";

/**
 * The pattern of the name of an organization. Pulumi Cloud limits names to 100 characters. Those of scopes are printable ASCII
 * without spaces, quotation marks, and backslashes (RFC 6749, section 3.3).
 */
export const ORGANIZATION_NAME = "\\w[\\w.-]{0,99}";

const OCTET = "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
// The last label begins with a letter, or the host would be an IP address in disguise, such as 127.1.
const HOST = `([\\w-]{1,63}\\.)*[A-Za-z][\\w-]{0,62}|${OCTET}(\\.${OCTET}){3}`;
const LOOPBACK_HOST = `localhost|127(\\.${OCTET}){3}|\\[::1\\]`;
const PORT = "(6553[0-5]|655[0-2]\\d|65[0-4]\\d{2}|6[0-4]\\d{3}|[1-5]\\d{4}|[1-9]\\d{0,3})";

export const DEFAULT_API_URL = "https://api.pulumi.com";

export const apiUrl = v.pipe(
  stringSchema(
    new RegExp(`^(?=.{1,255}$)(https://(${HOST})|http://(${LOOPBACK_HOST}))(:${PORT})?/?$`),
    "must be https://HOST without a path; http:// is allowed only for a loopback host",
  ),
  // An internationalized name can be invalid.
  v.check((url) => URL.canParse(url), "must be a URL"),
  v.transform((url) => new URL(url).origin),
  v.check(
    (origin) => origin !== "https://app.pulumi.com",
    "must be the URL of the API, such as https://api.pulumi.com, not of the console",
  ),
);
