// Replaces how a program reads the certificate of an issuer on another host, at which nothing listens in a test: its fingerprint is
// in the file that ISSUER_FINGERPRINT names.

const { EventEmitter } = require("node:events");
const { readFileSync } = require("node:fs");
const tls = require("node:tls");

const { connect } = tls;

tls.connect = (options, ...others) => {
  const { ISSUER_FINGERPRINT: file } = process.env;
  if (!file || !options?.host || options.host === "127.0.0.1") return connect(options, ...others);
  const socket = new EventEmitter();
  socket.destroy = () => {};
  socket.getPeerCertificate = () => ({ fingerprint256: readFileSync(file, "utf8") });
  setImmediate(() => socket.emit("secureConnect"));
  return socket;
};
