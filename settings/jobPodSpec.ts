// What `jobPodSpec` may change in the pod spec of the Jobs. What the token exchange needs stays as it is.

import { posix } from "node:path";
import * as v from "valibot";
import { isObject } from "../kubernetes/plainObject";
import { DIRECTORY, JOB_CONTAINER } from "../kubernetes/tokenVolume";
import { kubernetesName } from "./names";
import { listSchema, objectSchema } from "./validation";

const FIXED_ACCOUNT = v.optional(v.never("must not be set: each Job runs as its own service account"));

const mountPath = v.custom(
  (path) => !isBelowVolume(path),
  `must not be below ${DIRECTORY}, where it would hide a file of the token exchange`,
);

// Containers are merged by name.
const container = v.pipe(
  objectSchema,
  v.looseObject(
    {
      name: kubernetesName,
      env: v.optional(listSchema(objectSchema)),
      volumeMounts: v.optional(listSchema(v.pipe(objectSchema, v.looseObject({ mountPath }, "required")))),
    },
    "required",
  ),
  v.check(
    ({ name, command, args }) => name !== JOB_CONTAINER || (!command && !args),
    "must not set command or args, which each Job has from command of its entry",
  ),
);

const containers = v.pipe(
  listSchema(container),
  v.checkItems(
    ({ name }, index, all) => all.findIndex((other) => other.name === name) === index,
    "must not have the name of a container before it",
  ),
);

/** A schema for values that contain no null, output, promise, or resource at any depth. */
const plainSchema: v.GenericSchema = v.lazy((value) => {
  if (Array.isArray(value)) return v.array(plainSchema);
  if (isObject(value)) return v.record(v.string(), plainSchema);
  return v.custom((scalar) => typeof scalar !== "object", "must not be null, which would change nothing");
});

/** A schema for a pod spec that is merged over that of the Jobs. It checks the form of what the Job changes in it. */
export const jobPodSpec = v.pipe(
  objectSchema,
  v.record(v.string(), plainSchema),
  v.looseObject({
    serviceAccountName: FIXED_ACCOUNT,
    serviceAccount: FIXED_ACCOUNT,
    containers: v.optional(containers),
    volumes: v.optional(listSchema(objectSchema)),
  }),
);

/** Returns whether a path of a container is below the mount of the volume. */
function isBelowVolume(path: unknown): boolean {
  return posix.resolve("/", String(path)).startsWith(`${DIRECTORY}/`);
}
