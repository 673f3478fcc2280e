import { ServiceBusAdministrationClient } from "@azure/service-bus";

/** The SDK's client of the administration always says https; the broker, as the emulator, speaks plain HTTP. */
export function createAdminClient(connectionString: string): ServiceBusAdministrationClient {
  const client = new ServiceBusAdministrationClient(connectionString, { retryOptions: { maxRetries: 0 } });
  if (connectionString.includes("UseDevelopmentEmulator=true")) {
    client.pipeline.addPolicy({
      name: "plain-http",
      sendRequest(request, next) {
        request.url = request.url.replace(/^https:/, "http:");
        request.allowInsecureConnection = true;
        return next(request);
      },
    });
  }
  return client;
}
