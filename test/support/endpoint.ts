// A token endpoint on loopback that sends exactly the bytes of a test, however wrong they are.

import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";

export interface TokenRequest {
  /** Request line and headers. */
  head: string;
  form: URLSearchParams;
  /** In milliseconds since 1970. */
  arrivedAt: number;
}

/** Answers one request, or does not. */
export type Answer = (socket: Socket, request: TokenRequest) => unknown;

export interface Endpoint {
  url: string;
  /** Every request that arrived complete. */
  requests: TokenRequest[];
  /** Closes it together with its open connections. */
  close(): Promise<void>;
}

/**
 * Starts an endpoint on 127.0.0.1.
 *
 * @param answers answers to the first request, the second, and so on; the last one serves all further requests.
 * @param certificate key and certificate in PEM, for HTTPS.
 */
export async function startEndpoint(
  answers: Answer | Answer[],
  certificate?: { key: string; cert: string },
): Promise<Endpoint> {
  const requests: TokenRequest[] = [];
  const sockets: Socket[] = [];

  const serve = (socket: Socket) => {
    let text = "";
    // Many tests are about a client that closes the connection early.
    socket.on("error", () => socket.destroy());
    socket.setEncoding("latin1").on("data", (chunk) => {
      text += chunk;
      const [head = "", body] = text.split("\r\n\r\n", 2);
      const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0);
      if (body === undefined || body.length < length) return;
      const request = { head, form: new URLSearchParams(body), arrivedAt: Date.now() };
      requests.push(request);
      const answer = Array.isArray(answers) ? (answers[requests.length - 1] ?? answers.at(-1)) : answers;
      answer?.(socket, request);
    });
  };
  const server = certificate ? createTlsServer(certificate, serve) : createServer(serve);
  server.on("connection", (socket: Socket) => sockets.push(socket));
  server.on("tlsClientError", () => {});
  const port = await listen(server);
  return {
    url: `${certificate ? "https" : "http"}://127.0.0.1:${port}`,
    requests,
    close() {
      for (const socket of sockets) socket.destroy();
      return new Promise((closed) => server.close(() => closed()));
    },
  };
}

/** Starts a server on a free port of 127.0.0.1, and returns the port. */
export async function listen(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

/** Returns an answer with a status, a body, and headers; `Content-Length` and `Connection: close` are added. */
export function respond(status: number, body: string | object, headers: Record<string, string> = {}): Answer {
  const content = typeof body === "string" ? body : JSON.stringify(body);
  const lines = Object.entries({
    "Content-Type": "application/json",
    "Content-Length": String(Buffer.byteLength(content)),
    Connection: "close",
    ...headers,
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  return send(`HTTP/1.1 ${status} Status\r\n${lines.join("")}\r\n${content}`);
}

/** Sends these bytes and closes the connection. */
export function send(bytes: string | Buffer): Answer {
  return (socket) => socket.end(bytes);
}

/** Keeps the connection open. */
export function hang(): Answer {
  return () => {};
}
