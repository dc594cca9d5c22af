// The rules about a component as a whole: whether this pack can judge it, what it consists of, and which providers it uses.

import { VOLUME_NAME } from "../kubernetes/tokenVolume";
import { SOURCES } from "../sources";
import { ASSOCIATION, ATTACHMENT, ROLE } from "./aws";
import {
  ADMISSION_BINDING,
  ADMISSION_POLICY,
  CONFIG_MAP,
  JOB,
  NAMESPACE,
  SERVICE_ACCOUNT,
} from "./kubernetes";
import { type Account, COMPONENT, ownNameOf, type Settings, settingsFrom } from "./program";
import { ISSUER } from "./pulumiCloud";
import { compare, type ResourceRule } from "./rule";
import { textOf } from "./values";

export const sameVersion: ResourceRule = {
  name: "same-version",
  description: "A component has this pack's version. Most rules check no other version.",
  level: "mandatory",
  checkResource({ type, inputs, component }, report) {
    if (type === COMPONENT && inputs.sources !== SOURCES) {
      report(
        `It is of another commit than this pack: the checksum of its source files is ${textOf(inputs.sources)} instead of ` +
          `"${SOURCES}". Nothing of it was compared. Check out its commit in the pack's clone, and run \`npm ci\` there. ` +
          "For a state, that is the commit that was deployed last.",
      );
    } else if (type === COMPONENT && settingsFrom(inputs) === undefined) {
      report(`Its serviceAccounts are ${textOf(inputs.serviceAccounts)}, so nothing of it was compared.`);
    }
    if (component && Object.keys(component.inputs).length === 0) {
      report(
        `${component.name} has no inputs, so nothing of it was compared. Unset PULUMI_NODEJS_SKIP_COMPONENT_INPUTS.`,
      );
    }
  },
};

const PULUMI_CLOUD = "pulumi:providers:pulumiservice";
const WORKLOAD_IDENTITY = "eks-pulumi-oidc:index:WorkloadIdentity";

/** The resources that a component has once: their names without that of the component. */
function ofComponent({ createNamespaces, serviceAccounts }: Settings): Record<string, string[]> {
  const isInjecting = serviceAccounts.some(({ injectToken }) => injectToken);
  const injection = isInjecting ? ["inject-token"] : [];
  return {
    "pulumi:index:Stash": ["first-deployment"],
    [PULUMI_CLOUD]: ["oidc-issuer"],
    [ISSUER]: ["oidc-issuer"],
    [NAMESPACE]: createNamespaces,
    [ADMISSION_POLICY]: injection,
    [ADMISSION_BINDING]: injection,
  };
}

/** The resources of a service account. */
function ofAccount(account: Account): Record<string, string[]> {
  const own = ownNameOf(account);
  return {
    [WORKLOAD_IDENTITY]: [own],
    [CONFIG_MAP]: [`${own}.${VOLUME_NAME}`],
    [JOB]: account.runJob ? [own] : [],
    [SERVICE_ACCOUNT]: account.createServiceAccount ? [own] : [],
    [ROLE]: account.awsRole === "none" ? [] : [own],
    [ATTACHMENT]: account.rolePolicyArns.map((arn) => `${own}.${arn}`),
    [ASSOCIATION]: account.awsRole === "pod-identity" ? [own] : [],
  };
}

export const nothingElse: ResourceRule = {
  name: "nothing-else",
  description: "A component contains nothing that no setting requires.",
  level: "mandatory",
  checkResource({ type, settings, account, ownName = "" }, report) {
    if (!settings) return;
    const required = account ? ofAccount(account) : ofComponent(settings);
    if (!required[type]?.includes(ownName)) report("No setting requires it.");
  },
};

/** What a component itself ignores. */
const IGNORED: Record<string, string[]> = {
  // A rotated certificate changes nothing.
  [ISSUER]: ["thumbprints"],
  // The first value stays.
  "pulumi:index:Stash": ["input"],
  // A renamed component keeps its objects.
  [ADMISSION_POLICY]: ["metadata.name"],
  [ADMISSION_BINDING]: ["metadata.name"],
};

export const nothingIgnored: ResourceRule = {
  name: "nothing-ignored",
  description: "The program doesn't ignore changes to a component's resources.",
  level: "mandatory",
  checkResource({ type, settings, ignoreChanges }, report) {
    if (!settings) return;
    const others = ignoreChanges.filter((it) => !IGNORED[type]?.includes(it));
    if (others.length > 0) report(`It ignores changes of ${others.join(", ")}.`);
  },
};

export const providers: ResourceRule = {
  name: "providers",
  description:
    "A component uses one provider of each package, and sends the login's token only to the URL of its settings.",
  level: "mandatory",
  checkResource({ type, component, settings, provider, program }, report) {
    if (!settings || !component) return;
    if (!provider) {
      if (type === ISSUER) report("Its provider is not in the program.");
      return;
    }
    const first = program.resources.find((it) => {
      return it.component?.urn === component.urn && it.provider?.type === provider.type;
    });
    if (first?.provider && first.provider.urn !== provider.urn) {
      report(`Its provider is ${provider.urn}, and that of ${first.name} is ${first.provider.urn}.`);
    }
    if (provider.type !== PULUMI_CLOUD) return;
    const { apiUrl, accessToken, pluginDownloadURL } = provider.inputs;
    if (accessToken !== undefined && accessToken !== "") {
      report("Its provider has an accessToken, and sends that instead of the login's.");
    }
    const origin = typeof apiUrl === "string" ? apiUrl.replace(/\/$/, "") : apiUrl;
    compare(report, "apiUrl of its provider", origin, settings.pulumiApiUrl);
    compare(report, "pluginDownloadURL of its provider", pluginDownloadURL, undefined);
  },
};
