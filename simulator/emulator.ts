// What an emulator of the simulation offers to the two adapters: the resources that it keeps and the calls that it answers.

export interface Emulator {
  /** By Pulumi's type, such as `aws:iam/role:Role`. */
  resources: Record<string, ResourceKind>;
  /** By Pulumi's token, such as `aws:eks/getCluster:getCluster`. */
  calls: Record<string, Call>;
  /** What exists of the resources now, one name each. */
  existing(): string[];
}

export interface Call {
  /** @throws Error in the words of the provider. */
  answer(inputs: object): object;
}

export interface ResourceKind {
  /** The inputs whose change makes another resource instead of changing this one, as paths. */
  replaceOn: string[];
  /**
   * What the provider makes of the program's inputs before it compares them, such as a name where there is none.
   *
   * @param before the inputs of the resource that is there already.
   */
  check?(name: string, inputs: object, before: object): object;
  /** @throws Error in the words of the provider; Unready when the resource exists but is not what it should be. */
  create(name: string, inputs: object): Promise<Resource>;
  update(id: string, inputs: object): Promise<object>;
  /** @returns the inputs as the emulator has them now, or undefined when the resource is gone. */
  read(id: string): object | undefined;
  delete(id: string): void;
  /** Whether the resource has failed in a way that only a replacement can fix. */
  isUnready?(id: string): boolean;
}

export interface Resource {
  id: string;
  outputs: object;
}

/** A resource that was made and then failed, such as a Job: the engine keeps it, and the update fails. */
export class Unready extends Error {
  constructor(
    readonly resource: Resource,
    readonly reasons: string[],
  ) {
    super(reasons.join("\n"));
  }
}

/** The suffix by which Pulumi tells the generations of a resource apart. */
export function randomSuffix(): string {
  return Math.random().toString(16).slice(2, 10).padEnd(8, "0");
}
