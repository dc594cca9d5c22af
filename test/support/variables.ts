// Sets variables of the environment of this process for the time of a test.

/** Sets variables, and returns the function that restores all of them. */
export function setVariables(variables: Record<string, string>): () => void {
  const saved = { ...process.env };
  Object.assign(process.env, variables);
  return () => {
    for (const name of Object.keys(process.env)) delete process.env[name];
    Object.assign(process.env, saved);
  };
}
