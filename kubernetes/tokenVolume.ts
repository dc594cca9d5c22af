// What a pod needs to exchange its ID token, as plain objects: one volume, its mount, and one variable.

/** The volume of a pod, with the exchange script, its settings, and the ID token side by side. */
export const VOLUME_NAME = "pulumi-token-exchange";

/** The name of a service account's ConfigMap is the name of the service account with this suffix. */
export const CONFIG_MAP_SUFFIX = `-${VOLUME_NAME}`;

/** Where the volume is in a container. */
export const DIRECTORY = "/var/run/secrets/pulumi.com";

/** The file of the exchange script, which is also its key in the ConfigMap. */
export const SCRIPT_FILE = "exchange-token.sh";
export const SCRIPT_PATH = `${DIRECTORY}/${SCRIPT_FILE}`;

/** The files with the settings of the script, which are also their keys in the ConfigMap, in the order of its checksum. */
export const SETTINGS_FILES = [
  "organization",
  "tokenType",
  "tokenScope",
  "tokenExpirationSeconds",
  "apiUrl",
] as const;
export type SettingsFile = (typeof SETTINGS_FILES)[number];

/** The file of the ID token. */
const TOKEN_FILE = "token";

/** The mount of the volume. */
export const VOLUME_MOUNT = { name: VOLUME_NAME, mountPath: DIRECTORY, readOnly: true };

/** The Pulumi CLI runs the program in this variable for its token, and again when the token expires or is rejected. */
export const CREDENTIAL_HELPER = { name: "PULUMI_CREDENTIAL_HELPER", value: SCRIPT_PATH };

/** The name of the Job's container that exchanges the ID token. */
export const JOB_CONTAINER = "token-exchange";

/**
 * Returns the volume. The kubelet replaces its files when the ConfigMap changes, and the ID token before it expires.
 *
 * @typeParam Text a string, or an output.
 * @param configMap the name of the ConfigMap.
 * @param tokenAudience the audience of the ID token.
 */
export function tokenVolume<Text>(configMap: Text, tokenAudience: Text) {
  return {
    name: VOLUME_NAME,
    projected: {
      // Readable and executable for everyone, since a pod can run as any user.
      defaultMode: 0o555,
      sources: [
        { configMap: { name: configMap } },
        {
          serviceAccountToken: {
            audience: tokenAudience,
            // The shortest lifetime that Kubernetes grants: 10 minutes.
            expirationSeconds: 600,
            path: TOKEN_FILE,
          },
        },
      ],
    },
  };
}
