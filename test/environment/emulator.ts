// What an emulator offers to the SDK and to the engine: the resources that it keeps and the functions that it answers.

export interface Emulator {
  /** By Pulumi's type, such as `aws:iam/role:Role`. */
  resources: Record<string, ResourceKind>;
  /** By Pulumi's token, such as `aws:eks/getCluster:getCluster`. They throw an Error in the words of the provider. */
  calls: Record<string, { answer(inputs: object): object }>;
  /** Returns a name for each resource that exists now. */
  existing(): string[];
}

export interface ResourceKind {
  /** @throws Error in the words of the provider; Unready if the resource exists but failed. */
  create(name: string, inputs: object): Promise<Resource>;
  update(id: string, inputs: object): Promise<object>;
  /** Returns the inputs as the emulator has them now; undefined if the resource does not exist. */
  read(id: string): object | undefined | Promise<object | undefined>;
  delete(id: string): void;
}

export interface Resource {
  id: string;
  outputs: object;
}

/** A resource that was created and then failed, such as a Job: the engine keeps it, and the update fails. */
export class Unready extends Error {
  constructor(
    message: string,
    readonly resource: Resource,
    /** The part of the message that is not the same for every such resource. */
    readonly reason: string,
  ) {
    super(message);
  }
}

/**
 * Returns a kind of resource that is only stored.
 *
 * @param identify returns the ID of a new resource with its own name in Pulumi, or throws in the words of the provider.
 */
export function storedKind<Inputs extends object>(
  store: Map<string, Inputs>,
  identify: (inputs: Inputs, name: string) => string,
  outputs: (id: string, inputs: Inputs) => object = (_id, inputs) => inputs,
): ResourceKind {
  const put = (id: string, inputs: Inputs) => {
    store.set(id, inputs);
    return outputs(id, inputs);
  };
  return {
    async create(name, inputs: Inputs) {
      const id = identify(inputs, name);
      return { id, outputs: put(id, inputs) };
    },
    update: async (id, inputs: Inputs) => put(id, inputs),
    read: (id) => store.get(id),
    delete: (id) => void store.delete(id),
  };
}

/** Returns eight random characters, which make a name unique. */
export function randomSuffix(): string {
  return Math.random().toString(16).slice(2, 10).padEnd(8, "0");
}
