// Makes a process that runs the program against emulators trust their certificate authority, in NODE_EXTRA_CA_CERTS.
//
// Node.js reads that file only when it starts, and `npm start` creates it later. A connection with its own authorities, such
// as the program's to the issuer, does not use it in any case.

const { readFileSync } = require("node:fs");
const tls = require("node:tls");

const { NODE_EXTRA_CA_CERTS: file } = process.env;
const { connect } = tls;

if (file) {
  const authority = readFileSync(file, "utf8");
  // Created once: to read all authorities that Node.js bundles takes longer than a connection.
  const secureContext = tls.createSecureContext({ ca: authority });
  tls.connect = (options, ...others) => {
    // Another copy of this file, of a simulation that a test starts, has set it already.
    if (options?.host === "127.0.0.1" && !options.secureContext) {
      return connect({ ...options, ca: undefined, secureContext }, ...others);
    }
    const withAuthority = (ca) => ({ ...options, ca: [ca, authority].flat() });
    return connect(options?.ca === undefined ? options : withAuthority(options.ca), ...others);
  };
}
