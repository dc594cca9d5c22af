// TLS for tests that are about it, or that need an API server: a certificate authority, servers with its certificates, and requests
// that trust it. Nothing else does.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request as httpsRequest } from "node:https";
import { isIP } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { generate } from "selfsigned";
import { listen } from "./endpoint";

export interface Certificate {
  key: string;
  cert: string;
}

export interface CertificateAuthority {
  /** The path of its certificate, for curl and kubectl. */
  file: string;
  /** Its certificate in PEM. */
  cert: string;
  /** Issues a TLS certificate for a DNS name or an IP address, with a new key, both in PEM. */
  issue(host: string): Promise<Certificate>;
}

const DAY = 24 * 60 * 60 * 1000;
const ALGORITHM = { keyType: "ec", algorithm: "sha256" } as const;

let shared: Promise<CertificateAuthority> | undefined;

/** Returns the authority of this process. */
export function authorityOfTests(): Promise<CertificateAuthority> {
  shared ??= createAuthority();
  return shared;
}

/** Creates an authority, whose certificate is in a file until the process ends. */
export async function createAuthority(): Promise<CertificateAuthority> {
  // With one name for all, a certificate of another authority would have an invalid signature, not an unknown issuer.
  const name = `Tests ${randomBytes(4).toString("hex")}`;
  const { private: key, cert } = await generate([{ name: "commonName", value: name }], {
    ...ALGORITHM,
    notBeforeDate: new Date(Date.now() - 2 * DAY),
    notAfterDate: new Date(Date.now() + 365 * DAY),
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true },
    ],
  });
  const directory = mkdtempSync(join(tmpdir(), "authority-"));
  process.on("exit", () => rmSync(directory, { recursive: true }));
  const file = join(directory, "ca.pem");
  writeFileSync(file, cert);
  return {
    file,
    cert,
    async issue(host) {
      const subject = isIP(host) ? { type: 7 as const, ip: host } : { type: 2 as const, value: host };
      const issued = await generate([{ name: "commonName", value: "Test" }], {
        ...ALGORITHM,
        ca: { key, cert },
        notBeforeDate: new Date(Date.now() - DAY),
        notAfterDate: new Date(Date.now() + 364 * DAY),
        extensions: [
          { name: "basicConstraints", cA: false, critical: true },
          { name: "keyUsage", digitalSignature: true, critical: true },
          { name: "extKeyUsage", serverAuth: true },
          { name: "subjectAltName", altNames: [subject] },
        ],
      });
      return { key: issued.private, cert: issued.cert };
    },
  };
}

/** Serves JSON over HTTPS on a free port of the loopback address. */
export async function startTlsServer(reply: (path: string) => object) {
  const server = createServer(await (await authorityOfTests()).issue("127.0.0.1"), (request, response) => {
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify(reply(request.url ?? "")));
  });
  const port = await listen(server);
  return {
    origin: `https://127.0.0.1:${port}`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Sends a request over HTTPS. */
export async function requestTls(
  url: string,
  {
    method = "GET",
    headers = {},
    body,
  }: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<{ status: number; content: string }> {
  const { cert: ca } = await authorityOfTests();
  const request = httpsRequest(url, { method, headers, ca });
  request.end(body);
  const [response] = await once(request, "response");
  return { status: response.statusCode, content: await text(response) };
}
