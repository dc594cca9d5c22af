// Pod Security `restricted`, as far as the pods of this project could violate it:
// https://kubernetes.io/docs/concepts/security/pod-security-standards/

import type { PodSpec } from "../../simulator/emulators/pod";

const VOLUME_TYPES =
  "configMap csi downwardAPI emptyDir ephemeral persistentVolumeClaim projected secret".split(" ");
const SECCOMP_TYPES = ["RuntimeDefault", "Localhost"];

/** Returns the requirements that a pod does not meet; nothing if Pod Security `restricted` admits it. */
export function violations(pod: PodSpec): string[] {
  const requirements: [string, boolean | undefined][] = [
    ["no namespace of the host", !pod.hostNetwork && !pod.hostPID && !pod.hostIPC],
    ...(pod.volumes ?? []).map(({ name, ...volume }): [string, boolean] => [
      `volume ${name}: type`,
      Object.keys(volume).every((type) => VOLUME_TYPES.includes(type)),
    ]),
    ...[...(pod.initContainers ?? []), ...pod.containers].flatMap(({ name, ports, ...container }) => {
      const context: Partial<typeof container.securityContext> = container.securityContext ?? {};
      const inherited = { ...pod.securityContext, ...context };
      const { add = [], drop = [] } = context.capabilities ?? {};
      return [
        [`${name}: not root`, inherited.runAsNonRoot && inherited.runAsUser !== 0],
        [`${name}: seccompProfile`, SECCOMP_TYPES.includes(inherited.seccompProfile?.type ?? "")],
        [`${name}: not privileged`, !context.privileged && context.allowPrivilegeEscalation === false],
        [`${name}: capabilities`, drop.includes("ALL") && add.every((added) => added === "NET_BIND_SERVICE")],
        [`${name}: no host port`, !ports?.some(({ hostPort }) => hostPort)],
      ] satisfies [string, boolean | undefined][];
    }),
  ];
  return requirements.flatMap(([requirement, holds]) => (holds ? [] : [requirement]));
}
