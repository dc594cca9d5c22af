// Two service accounts in a namespace of the cluster that kubectl uses, each for the token of another team. trial.ts exchanges their
// ID tokens, and then lets the Job of the first one do so.

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

const runJob = config.requireBoolean("runJob");
const trial = { namespace, name: "trial", tokenType: "team", teamName: "pulumi-trial", runJob } as const;
const other = { ...trial, name: "other", teamName: "pulumi-trial-other", runJob: false } as const;

new PulumiCloudAccess(
  "access",
  {
    organization: config.require("organization"),
    issuerName: "pulumi-trial",
    issuerUrl,
    maxExpirationSeconds: 600,
    audienceRule: config.requireBoolean("audienceRule"),
    pulumiApiUrl: config.require("pulumiApiUrl"),
    createNamespaces: [namespace],
    serviceAccounts: [trial, other],
  },
  { providers: [kubernetes] },
);
