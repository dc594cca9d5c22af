// The HTTPS servers of the emulators.

import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";

export interface Reply {
  status: number;
  body?: object;
}

/** Starts a server on a free port of the loopback address, which replies with JSON. */
export async function startServer(
  tls: { key: string; cert: string },
  reply: (request: IncomingMessage) => Reply | Promise<Reply>,
): Promise<{ server: Server; origin: string; close(): Promise<void> }> {
  const server = createServer(tls, async (request, response) => {
    try {
      const { status, body } = await reply(request);
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(JSON.stringify(body));
    } catch {
      response.destroy();
    }
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    server,
    origin: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}
