import type { TokenCredential } from "@azure/identity";
import { ServiceBusAdministrationClient, ServiceBusClient, type ServiceBusClientOptions } from "@azure/service-bus";
import { PermanentError } from "../errors.ts";

/** Where the namespace is. */
export type ServiceBusAccount =
  | {
    readonly connectionString: string;
    /** Where queues are made and counted, if that is not the same place: an emulator has another port for it. */
    readonly adminConnectionString?: string;
  }
  /** `my-namespace`, or its whole host name. */
  | { readonly namespace: string; readonly credential: TokenCredential };

/**
 * One try a call: which failures are worth another, and after which pause, is decided in one place (`service-bus-send.ts`, and the
 * loop in `consume.ts`). The SDK's own default is silent for 90 seconds, for a wrong key too.
 */
const clientOptions: ServiceBusClientOptions = { retryOptions: { maxRetries: 0, timeoutInMs: 5_000 } };

/** Connects with the first call. Throws PermanentError `invalid-configuration` if the account can't be one. */
export function createServiceBusClient(account: ServiceBusAccount): ServiceBusClient {
  if ("credential" in account) return new ServiceBusClient(hostOf(account.namespace), account.credential, clientOptions);
  return checkingFormat(() => new ServiceBusClient(account.connectionString, clientOptions));
}

/** For queues and counts; needs the right to manage. */
export function createServiceBusAdminClient(account: ServiceBusAccount): ServiceBusAdministrationClient {
  const retryOptions = { maxRetries: 2, retryDelayInMs: 200, maxRetryDelayInMs: 2_000 };
  if ("credential" in account) {
    return new ServiceBusAdministrationClient(hostOf(account.namespace), account.credential, { retryOptions });
  }
  return checkingFormat(() => {
    const connectionString = account.adminConnectionString ?? account.connectionString;
    const client = new ServiceBusAdministrationClient(connectionString, { retryOptions });
    if (isEmulator(connectionString)) client.pipeline.addPolicy(withoutTls);
    return client;
  });
}

/** Where its queues are made: the host, and the port if it isn't the usual one. */
export function hostOfAccount(account: ServiceBusAccount): string {
  if ("credential" in account) return hostOf(account.namespace);
  const { connectionString, adminConnectionString = connectionString } = account;
  return /Endpoint=\w+:\/\/([^/;]+)/i.exec(adminConnectionString)?.[1] ?? "Service Bus";
}

function hostOf(namespace: string): string {
  return namespace.includes(".") ? namespace : `${namespace}.servicebus.windows.net`;
}

function isEmulator(connectionString: string): boolean {
  return /(^|;)\s*UseDevelopmentEmulator\s*=\s*true\s*(;|$)/i.test(connectionString);
}

/** An emulator has no TLS, and the SDK (7.9.5) speaks https to whatever it administers. */
const withoutTls: Parameters<ServiceBusAdministrationClient["pipeline"]["addPolicy"]>[0] = {
  name: "withoutTls",
  async sendRequest(request, next) {
    request.url = request.url.replace(/^https:/, "http:");
    request.allowInsecureConnection = true;
    return await next(request);
  },
};

function checkingFormat<Client>(create: () => Client): Client {
  try {
    return create();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new PermanentError("invalid-configuration", `the connection string of Service Bus is not one: ${reason}`, {
      cause: error,
    });
  }
}
