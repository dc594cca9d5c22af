// A stack of the program on a real API server, with the emulated AWS and Pulumi Cloud.

import { startAws } from "../../simulator/emulators/aws";
import { type PulumiCloudOptions, startPulumiCloud } from "../../simulator/emulators/pulumiCloud";
import { type Registration, runProgram } from "../../simulator/runProgram";
import { type ApiServer, startApiServer } from "./apiServer";
import { realKubernetes } from "./realKubernetes";
import { CLUSTER, stackOf } from "./stack";

interface RealStackOptions extends PulumiCloudOptions {
  settings: Record<string, unknown>;
  /** Namespaces that exist before the stack. */
  namespaces: string[];
}

export interface RealStack {
  server: ApiServer;
  registered: Registration[];
  close(): Promise<void>;
}

/** Starts an API server, and creates a stack on it. Its Jobs count as succeeded, since no controller runs them. */
export async function startRealStack({
  settings,
  namespaces,
  ...options
}: RealStackOptions): Promise<RealStack> {
  const server = await startApiServer();
  const pulumiCloud = await startPulumiCloud({ registrationMilliseconds: 0, ...options });
  async function close() {
    await Promise.all([server.close(), pulumiCloud.close()]);
  }

  try {
    for (const namespace of namespaces) await server.createNamespace(namespace);
    const aws = startAws({ region: "us-west-2", cluster: CLUSTER, issuerUrl: server.url });
    const resources = { ...aws.resources, ...pulumiCloud.resources, ...realKubernetes(server) };
    const stack = stackOf({ pulumiApiUrl: pulumiCloud.url, ...settings });
    const { registered } = await runProgram({ resources, calls: aws.calls }, stack);
    // A controller does so in a cluster.
    for (const { type, id } of registered) {
      if (type.endsWith(":Namespace")) await server.createServiceAccount(id, "default");
    }
    return { server, registered, close };
  } catch (error) {
    await close();
    throw error;
  }
}
