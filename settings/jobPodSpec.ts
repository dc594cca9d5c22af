// What the pod spec of the Jobs may override.

import { posix } from "node:path";
import * as v from "valibot";
import { CREDENTIAL_HELPER, VOLUME_MOUNT, VOLUME_NAME } from "../tokenVolume";
import { kubernetesName } from "./names";
import { isObject, listSchema, objectSchema, plainSchema } from "./validation";

const FIXED_ACCOUNT = v.optional(v.never("must not be set: each Job runs as its own service account"));
const FIXED_COMMAND = v.optional(
  v.never("must not be set: the Job would not test the token exchange; use command of the service account"),
);

const FIXED_EXCHANGE =
  "must not be set: the Job would test something other than the token exchange of workloads";

/** Whether a path of a container is the directory of the volume, or in it. */
function isInVolume(path: unknown): boolean {
  return `${posix.resolve("/", String(path))}/`.startsWith(`${VOLUME_MOUNT.mountPath}/`);
}

// An element without a name would replace the Job's own container and its restrictions.
const named = v.pipe(objectSchema, v.looseObject({ name: kubernetesName }, "required"));

const otherVolume = v.pipe(
  named,
  v.check(({ name }) => name !== VOLUME_NAME, FIXED_EXCHANGE),
);

/** Returns a schema for lists of objects, of which it checks these keys. */
function listOf(entries: v.ObjectEntries) {
  return listSchema(v.pipe(objectSchema, v.looseObject(entries)));
}

/** What the Job's own container must not have, since it would not test the exchange. */
const exchangeContainer = v.looseObject({
  command: FIXED_COMMAND,
  args: FIXED_COMMAND,
  env: v.optional(listOf({ name: v.custom((name) => name !== CREDENTIAL_HELPER.name, FIXED_EXCHANGE) })),
  volumeMounts: v.optional(listOf({ mountPath: v.custom((path) => !isInVolume(path), FIXED_EXCHANGE) })),
});

const container = v.lazy((value) => {
  return isObject(value) && value.name === "token-exchange" ? exchangeContainer : named;
});

/** A schema for a pod spec that is merged over that of the Jobs. */
export const jobPodSpec = v.pipe(
  objectSchema,
  v.record(v.string(), plainSchema),
  v.looseObject({
    serviceAccountName: FIXED_ACCOUNT,
    serviceAccount: FIXED_ACCOUNT,
    containers: v.optional(listSchema(container)),
    volumes: v.optional(listSchema(otherVolume)),
  }),
);
