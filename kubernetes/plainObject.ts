// What a plain object is: all that Kubernetes gets consists of them.

/** Returns whether a value is a plain object, as opposed to a list, a scalar, an output, or a resource. */
export function isObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
