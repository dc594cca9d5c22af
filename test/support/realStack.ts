// A stack of the program on a real API server, with the emulated AWS and Pulumi Cloud.

import assert from "node:assert/strict";
import { type Aws, startAws } from "../../simulator/emulators/aws";
import { startIssuer } from "../../simulator/emulators/issuer";
import {
  type PulumiCloud,
  type PulumiCloudOptions,
  startPulumiCloud,
} from "../../simulator/emulators/pulumiCloud";
import { type Registration, runProgram } from "../../simulator/runProgram";
import type { AskedServices } from "../../simulator/simulatedAccess";
import { type ApiServer, startApiServer } from "./apiServer";
import { realIssuer } from "./realIssuer";
import { realKubernetes } from "./realKubernetes";
import { CLUSTER, stackOf } from "./stack";

interface RealStackOptions extends PulumiCloudOptions {
  settings: Record<string, unknown>;
  /** Namespaces that exist before the stack. */
  namespaces?: string[];
}

export interface RealStack {
  server: ApiServer;
  services: AskedServices & { aws: Aws; pulumiCloud: PulumiCloud };
  /** The stack's configuration, as the engine passes it. */
  config: Record<string, string>;
  outputs: Record<string, unknown>;
  registered: Registration[];
  close(): Promise<void>;
}

/** Starts an API server, and creates a stack on it. Its Jobs count as succeeded, since no controller runs them. */
export async function startRealStack({
  settings,
  namespaces = [],
  ...options
}: RealStackOptions): Promise<RealStack> {
  const server = await startApiServer();
  const pulumiCloud = await startPulumiCloud({ registrationMilliseconds: 0, ...options });
  const otherIssuer = await startIssuer("other");
  async function close() {
    await Promise.all([server.close(), pulumiCloud.close(), otherIssuer.close()]);
  }

  try {
    for (const namespace of namespaces) await server.createNamespace(namespace);
    const aws = startAws({ region: "us-west-2", cluster: CLUSTER, issuerUrl: server.url });
    const resources = { ...aws.resources, ...pulumiCloud.resources, ...realKubernetes(server) };
    const stack = stackOf({ pulumiApiUrl: pulumiCloud.url, ...settings });
    const { outputs, registered } = await runProgram({ resources, calls: aws.calls }, stack);
    // A controller does so in a cluster.
    for (const { type, id } of registered) {
      if (type.endsWith(":Namespace")) await server.createServiceAccount(id, "default");
    }

    const kubernetes = {
      podOf: (namespace: string, serviceAccount: string) => ({ namespace, serviceAccount }),
      configMap: (namespace: string, name: string) => configMapOf(registered, namespace, name),
    };
    const services = { aws, pulumiCloud, kubernetes, issuer: realIssuer(server), otherIssuer };
    return { server, services, config: stack.config, outputs, registered, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function configMapOf(registered: Registration[], namespace: string, name: string): Record<string, string> {
  const found = registered.find(
    ({ type, id }) => type.endsWith(":ConfigMap") && id === `${namespace}/${name}`,
  );
  const { data } = (found?.outputs ?? assert.fail(`no ConfigMap ${namespace}/${name}`)) as {
    data: Record<string, string>;
  };
  return data;
}
