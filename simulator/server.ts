// The HTTPS servers of the emulators.

import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";

export interface Reply {
  status: number;
  body: object;
}

/** Starts a server on a free port of the loopback address, which replies with JSON. */
export async function startServer(
  tls: { key: string; cert: string },
  reply: (request: IncomingMessage) => Reply | Promise<Reply>,
): Promise<{ server: Server; origin: string; close(): Promise<void> }> {
  const respond = async (request: IncomingMessage, response: ServerResponse) => {
    const { status, body } = await reply(request);
    response.writeHead(status, { "Content-Type": "application/json", "Cache-Control": "no-store" });
    response.end(JSON.stringify(body));
  };
  const server = createServer(tls, (request, response) => {
    respond(request, response).catch((error: Error) => response.destroy(error));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
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
