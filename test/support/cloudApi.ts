// Builds the specification of an emulated Pulumi Cloud's API, which `pulumi api` reads before it sends a request.

/** Returns a specification of paths such as `/api/orgs/{orgName}`, with the ID of the operation for each method. */
export function specificationOf(paths: Record<string, Record<string, string>>): object {
  const described = Object.entries(paths).map(([path, operations]) => {
    const methods = Object.entries(operations).map(([method, id]) => [method, operationOf(id, path)]);
    return [path, Object.fromEntries(methods)];
  });
  return {
    openapi: "3.0.3",
    info: { title: "Pulumi Cloud", version: "1" },
    // Without schemas `pulumi api` panics.
    components: { schemas: {} },
    paths: Object.fromEntries(described),
  };
}

function operationOf(operationId: string, path: string): object {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
  const content = { "application/json": { schema: { type: "object" } } };
  return {
    operationId,
    parameters: names.map((name) => ({ name, in: "path", required: true, schema: { type: "string" } })),
    responses: { 200: { description: "OK", content } },
  };
}
