// Sets variables of the environment of this process for the time of a test.

/** Sets variables, or deletes those that are undefined. Returns the function that restores all of them. */
export function setVariables(variables: NodeJS.ProcessEnv): () => void {
  const saved = { ...process.env };
  for (const [name, value] of Object.entries(variables)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  return () => {
    for (const name of Object.keys(process.env)) delete process.env[name];
    Object.assign(process.env, saved);
  };
}
