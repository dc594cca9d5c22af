// The Job: one pod that exchanges its own id token for an access token and runs a command with it.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Job } from "@pulumi/kubernetes/batch/v1";
import { ConfigMap } from "@pulumi/kubernetes/core/v1";
import type * as pulumi from "@pulumi/pulumi";

export interface JobArgs {
  namespace: pulumi.Input<string>;
  serviceAccountName: pulumi.Input<string>;
  /** It needs bash 4.4, curl 7.84 and CA certificates. */
  image: string;
  /** Run as it is, once the exchange has succeeded. */
  command: string[];
  organization: string;
  tokenType: string;
  /** Such as `user:LOGIN`; empty for an organization token. */
  tokenScope: string;
  tokenExpirationSeconds: number;
  /** The audience of the pod's id token. */
  tokenAudience: string;
  /** Where Pulumi Cloud is. */
  apiUrl: string;
}

const SCRIPT = readFileSync(join(__dirname, "scripts", "exchange-token.sh"), "utf8");

// The audience of the token that the EKS webhook mounts into the pods of an annotated service account.
const WEBHOOK_AUDIENCE = "sts.amazonaws.com";

const TOKEN_FOLDER = "/var/run/secrets/pulumi.com/serviceaccount";

const DEADLINE_SECONDS = 300;

/**
 * Creates the ConfigMap with the exchange script and the Job that runs it. The update waits for the pod: a refused
 * exchange fails it, and the script's last lines are its message.
 *
 * @param options the cluster's provider; `dependsOn` all that the exchange needs, for the webhook acts only on pods
 *   that are created after their service account; `replacementTrigger` whatever else has to run the Job again.
 * @returns the Job, once the pod has succeeded.
 */
export function createJob(
  args: JobArgs,
  options: Pick<pulumi.CustomResourceOptions, "dependsOn" | "replacementTrigger"> & {
    provider: pulumi.ProviderResource;
  },
): Job {
  const { provider } = options;
  const metadata = { namespace: args.namespace };
  const script = new ConfigMap("script", { metadata, data: { "entrypoint.sh": SCRIPT } }, { provider });

  // The webhook's token is there without asking. Another audience takes a token, and a volume, of its own.
  const ownToken = args.tokenAudience !== WEBHOOK_AUDIENCE;

  return new Job(
    "runner",
    {
      metadata,
      spec: {
        backoffLimit: 0,
        activeDeadlineSeconds: DEADLINE_SECONDS,
        template: {
          spec: {
            serviceAccountName: args.serviceAccountName,
            automountServiceAccountToken: false,
            restartPolicy: "Never",
            securityContext: {
              runAsNonRoot: true,
              runAsUser: 1000,
              runAsGroup: 1000,
              // The kubelet makes id tokens readable for this group.
              fsGroup: 1000,
              seccompProfile: { type: "RuntimeDefault" },
            },
            containers: [
              {
                name: "runner",
                image: args.image,
                command: ["/bin/entrypoint.sh"],
                args: args.command.map(literal),
                env: [
                  { name: "PULUMI_ORG", value: args.organization },
                  { name: "PULUMI_TOKEN_TYPE", value: args.tokenType },
                  { name: "PULUMI_TOKEN_SCOPE", value: args.tokenScope },
                  { name: "PULUMI_TOKEN_EXPIRATION", value: String(args.tokenExpirationSeconds) },
                  { name: "PULUMI_BACKEND_URL", value: args.apiUrl },
                  ...(ownToken ? [{ name: "PULUMI_OIDC_TOKEN_FILE", value: `${TOKEN_FOLDER}/token` }] : []),
                  { name: "HOME", value: "/tmp" },
                  // The CLI finds its home by the user's id, which no image knows.
                  { name: "PULUMI_HOME", value: "/tmp/.pulumi" },
                ].map(({ name, value }) => ({ name, value: literal(value) })),
                securityContext: {
                  allowPrivilegeEscalation: false,
                  readOnlyRootFilesystem: true,
                  capabilities: { drop: ["ALL"] },
                },
                resources: {
                  requests: { cpu: "100m", memory: "256Mi" },
                  limits: { cpu: "1", memory: "512Mi" },
                },
                // `pulumi up` shows this message, and nothing else, of a pod that failed.
                terminationMessagePolicy: "FallbackToLogsOnError",
                volumeMounts: [
                  {
                    name: "script",
                    mountPath: "/bin/entrypoint.sh",
                    subPath: "entrypoint.sh",
                    readOnly: true,
                  },
                  { name: "scratch", mountPath: "/tmp" },
                  ...(ownToken ? [{ name: "token", mountPath: TOKEN_FOLDER, readOnly: true }] : []),
                ],
              },
            ],
            volumes: [
              { name: "script", configMap: { name: script.metadata.name, defaultMode: 0o555 } },
              // In memory: what the command writes, its credentials included, never reaches a node's disk.
              { name: "scratch", emptyDir: { medium: "Memory", sizeLimit: "128Mi" } },
              ...(ownToken ? [{ name: "token", projected: { sources: [idToken(args.tokenAudience)] } }] : []),
            ],
          },
        },
      },
    },
    {
      ...options,
      customTimeouts: { create: `${DEADLINE_SECONDS + 60}s`, update: `${DEADLINE_SECONDS + 60}s` },
    },
  );
}

function idToken(audience: string) {
  // Ten minutes, the least that Kubernetes grants; the pod needs it once.
  return { serviceAccountToken: { audience, expirationSeconds: 600, path: "token" } };
}

// Kubernetes expands $(NAME) in arguments and variables, and reads $$ as $:
// https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
function literal(text: string): string {
  return text.replaceAll("$", "$$$$");
}
