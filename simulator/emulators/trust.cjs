// Preloaded by the processes that run the program against emulators. It verifies the issuer's TLS certificate against the
// authorities that Node.js ships; here, that of the simulation counts too, whose file is in NODE_EXTRA_CA_CERTS.

const { readFileSync } = require("node:fs");
const tls = require("node:tls");

const { NODE_EXTRA_CA_CERTS: file } = process.env;
const { connect } = tls;

if (file) {
  const authority = readFileSync(file, "utf8");
  tls.connect = (options, ...others) =>
    connect(options?.ca ? { ...options, ca: [options.ca, authority].flat() } : options, ...others);
}
