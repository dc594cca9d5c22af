// Two service accounts in a namespace of the cluster that kubectl uses: one acts as a user, the other one as the organization. run.sh
// exchanges their ID tokens, and then lets the Job of the first one do so.

import { Provider } from "@pulumi/kubernetes/provider";
import { Config } from "@pulumi/pulumi";
import { PulumiCloudAccess } from "../../pulumiCloudAccess";

const config = new Config();
const issuerUrl = config.require("issuerUrl");
const namespace = "pulumi-trial";

const kubernetes = new Provider("kubernetes", {
  context: config.require("context"),
  clusterIdentifier: issuerUrl,
  enableConfigMapMutable: true,
  // Explicit, so that PULUMI_K8S_UPSERT_EXISTING_OBJECTS can't let the program adopt, and later delete, what exists.
  upsertExistingObjects: false,
});

const userLogin = config.require("userLogin");
const runJob = config.requireBoolean("runJob");
const user = { namespace, name: "trial", tokenType: "personal", userLogin, runJob } as const;
const organization = { namespace, name: "other", tokenType: "organization", runJob: false } as const;

const access = new PulumiCloudAccess(
  "access",
  {
    organization: config.require("organization"),
    issuerName: "pulumi-trial",
    issuerUrl,
    maxExpirationSeconds: 600,
    audienceRule: config.requireBoolean("audienceRule"),
    pulumiApiUrl: config.require("pulumiApiUrl"),
    createNamespaces: [namespace],
    // Pulumi Cloud can reject an organization token without a role.
    serviceAccounts: config.requireBoolean("organizationToken") ? [user, organization] : [user],
  },
  { providers: [kubernetes] },
);

export const oidcIssuerId = access.oidcIssuerId;
