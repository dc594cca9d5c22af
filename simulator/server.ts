// The HTTP servers of the emulators.

import { once } from "node:events";
import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";

export interface Reply {
  status: number;
  body?: object;
}

interface RunningServer {
  /** `http://127.0.0.1:PORT` */
  origin: string;
  close(): Promise<void>;
}

/** Starts a server on a free port of the loopback address, which replies with JSON. */
export async function startServer(
  reply: (request: IncomingMessage) => Reply | Promise<Reply>,
): Promise<RunningServer> {
  return listen(async (request, response) => {
    try {
      const { status, body } = await reply(request);
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(JSON.stringify(body));
    } catch {
      response.destroy();
    }
  });
}

/** Starts a server on a free port of the loopback address. */
export async function listen(listener: RequestListener): Promise<RunningServer> {
  const server = createServer(listener);
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}
