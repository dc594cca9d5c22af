// Admission by Pod Security `restricted`: https://kubernetes.io/docs/concepts/security/pod-security-standards/

import type { PodSpec } from "./pod";

const VOLUME_TYPES = [
  "configMap",
  "csi",
  "downwardAPI",
  "emptyDir",
  "ephemeral",
  "persistentVolumeClaim",
  "projected",
  "secret",
];

/** @returns what Pod Security `restricted` has against a pod of Linux containers; nothing when it lets it in. */
export function violations(pod: PodSpec): string[] {
  const found: string[] = [];
  const demand = (holds: boolean | undefined, demanded: string) => {
    if (!holds) found.push(demanded);
  };
  const podContext = pod.securityContext ?? {};

  demand(
    !pod.hostNetwork && !pod.hostPID && !pod.hostIPC,
    "hostNetwork, hostPID and hostIPC must not be set",
  );
  demand(!podContext.sysctls?.length, "sysctls must not be set");
  for (const volume of pod.volumes ?? []) {
    const types = Object.keys(volume).filter((key) => key !== "name");
    demand(
      types.every((type) => VOLUME_TYPES.includes(type)),
      `volume ${volume.name} must not be of type ${types}`,
    );
  }
  demand(podContext.runAsUser !== 0, "the pod must not run as user 0");
  for (const container of [...(pod.initContainers ?? []), ...pod.containers]) {
    const context = container.securityContext ?? {};
    const { name } = container;
    const user = context.runAsUser ?? podContext.runAsUser;
    const seccomp = context.seccompProfile ?? podContext.seccompProfile;
    const added = context.capabilities?.add ?? [];

    demand(context.runAsNonRoot ?? podContext.runAsNonRoot, `container ${name} must set runAsNonRoot`);
    demand(user !== 0, `container ${name} must not run as user 0`);
    demand(
      seccomp?.type === "RuntimeDefault" || seccomp?.type === "Localhost",
      `container ${name} must set a seccompProfile of type RuntimeDefault or Localhost`,
    );
    demand(
      context.allowPrivilegeEscalation === false,
      `container ${name} must set allowPrivilegeEscalation to false`,
    );
    demand(context.capabilities?.drop?.includes("ALL"), `container ${name} must drop ALL capabilities`);
    demand(
      added.every((capability) => capability === "NET_BIND_SERVICE"),
      `container ${name} must not add capabilities but NET_BIND_SERVICE`,
    );
    for (const { appArmorProfile, seLinuxOptions, windowsOptions } of [podContext, context]) {
      demand(appArmorProfile?.type !== "Unconfined", `container ${name} must not be unconfined by AppArmor`);
      demand(!seLinuxOptions, `container ${name} must not set seLinuxOptions`);
      demand(!windowsOptions?.hostProcess, `container ${name} must not be a hostProcess`);
    }
    demand(!context.privileged, `container ${name} must not be privileged`);
    demand(
      context.procMount === undefined || context.procMount === "Default",
      `container ${name} must not set procMount`,
    );
    demand(!container.ports?.some(({ hostPort }) => hostPort), `container ${name} must not use host ports`);
  }
  return found;
}
