// Admission by Pod Security `restricted`, as far as a Job's pod spec can violate it:
// https://kubernetes.io/docs/concepts/security/pod-security-standards/

import type { PodSpec } from "../simulator/pod";

const VOLUME_TYPES = "configMap csi downwardAPI emptyDir ephemeral persistentVolumeClaim projected secret".split(" ");

/** Returns what Pod Security `restricted` rejects of a pod; nothing if it admits the pod. */
export function violations(pod: PodSpec): string[] {
  const found: string[] = [];
  const require = (holds: boolean | undefined, requirement: string) => {
    if (!holds) found.push(requirement);
  };
  const podContext = pod.securityContext ?? {};

  require(!pod.hostNetwork && !pod.hostPID && !pod.hostIPC, "hostNetwork, hostPID and hostIPC must not be set");
  require(!podContext.sysctls?.length, "sysctls must not be set");
  require(podContext.runAsUser !== 0, "the pod must not run as user 0");
  for (const { name, ...volume } of pod.volumes ?? []) {
    const types = Object.keys(volume);
    require(types.every((type) => VOLUME_TYPES.includes(type)), `volume ${name} must not be of type ${types}`);
  }
  for (const { name, securityContext, ports } of [...(pod.initContainers ?? []), ...pod.containers]) {
    const context: Partial<typeof securityContext> = securityContext ?? {};
    const must = (holds: boolean | undefined, requirement: string) =>
      require(holds, `container ${name} must ${requirement}`);
    const { type = "" } = context.seccompProfile ?? podContext.seccompProfile ?? {};
    const added = context.capabilities?.add ?? [];

    must(context.runAsNonRoot ?? podContext.runAsNonRoot, "set runAsNonRoot");
    must((context.runAsUser ?? podContext.runAsUser) !== 0, "not run as user 0");
    must(["RuntimeDefault", "Localhost"].includes(type), "set a seccompProfile of type RuntimeDefault or Localhost");
    must(context.allowPrivilegeEscalation === false, "set allowPrivilegeEscalation to false");
    must(context.capabilities?.drop?.includes("ALL"), "drop ALL capabilities");
    must(
      added.every((name) => name === "NET_BIND_SERVICE"),
      "not add capabilities but NET_BIND_SERVICE",
    );
    must(!context.privileged, "not be privileged");
    must((context.procMount ?? "Default") === "Default", "not set procMount");
    must(!ports?.some(({ hostPort }) => hostPort), "not use host ports");
    for (const { appArmorProfile, seLinuxOptions, windowsOptions } of [podContext, context]) {
      must(appArmorProfile?.type !== "Unconfined", "not be unconfined by AppArmor");
      must(!seLinuxOptions, "not set seLinuxOptions");
      must(!windowsOptions?.hostProcess, "not be a hostProcess");
    }
  }
  return found;
}
