// The Job that tests the token exchange of one service account.

import { hash } from "node:crypto";
import { Job } from "@pulumi/kubernetes/batch/v1";
import type * as pulumi from "@pulumi/pulumi";
import { type JobPodArgs, jobPod } from "./kubernetes/jobPod";
import type { TokenExchange } from "./tokenExchange";

export interface JobArgs extends Omit<JobPodArgs, "configMap"> {
  namespace: string;
  tokenExchange: TokenExchange;
}

const DEADLINE_SECONDS = 300;

/**
 * Creates the Job that exchanges an ID token once. The update waits for its pod: a denied exchange fails the update, and
 * the script's last lines are the message.
 *
 * @param options `dependsOn` everything that the exchange needs, since a pod receives its role only when it is created;
 *   `replacementTrigger` everything else that has to run the Job again.
 * @returns the Job, once its pod has succeeded.
 */
export function createJob(
  name: string,
  { namespace, tokenExchange, ...pod }: JobArgs,
  options?: pulumi.CustomResourceOptions,
): Job {
  // Longer than the Job's own deadline, whose message says more.
  const timeout = `${DEADLINE_SECONDS + 60}s`;
  return new Job(
    name,
    {
      metadata: {
        namespace,
        name: jobName(pod.serviceAccountName),
        // The next update replaces a failed Job:
        // https://www.pulumi.com/registry/packages/kubernetes/installation-configuration/#pulumi-kubernetes-annotations
        annotations: { "pulumi.com/replaceUnready": "true" },
      },
      spec: {
        backoffLimit: 0,
        activeDeadlineSeconds: DEADLINE_SECONDS,
        template: {
          metadata: { annotations: { "pulumi.com/token-exchange-checksum": tokenExchange.checksum } },
          spec: jobPod({ ...pod, configMap: tokenExchange.configMap.metadata.name }),
        },
      },
    },
    {
      ...options,
      // A new Job cannot have the name of the one that it replaces.
      deleteBeforeReplace: true,
      customTimeouts: { create: timeout, update: timeout },
    },
  );
}

/** Returns the name of a service account's Job. It is a label of its pods too, which has at most 63 characters. */
export function jobName(serviceAccountName: string): string {
  const name = `${serviceAccountName}-token-exchange`;
  return name.length <= 63 ? name : `${hash("sha256", serviceAccountName).slice(0, 16)}-token-exchange`;
}
