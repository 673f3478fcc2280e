import type { Tier } from "../queue/tier.ts";

const created = "2024-01-01T00:00:00Z";

export function namespaceEntry(tier: Tier, origin: string): string {
  const sku = tier === "basic" ? "Basic" : "Standard";
  return `<entry xmlns="http://www.w3.org/2005/Atom"><id>${origin}/$namespaceinfo</id><title type="text">localhost</title>` +
    `<updated>${created}</updated><content type="application/xml">` +
    `<NamespaceInfo xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect">` +
    `<CreatedTime>${created}</CreatedTime><MessagingSKU>${sku}</MessagingSKU><ModifiedTime>${created}</ModifiedTime>` +
    `<Name>localhost</Name><NamespaceType>Messaging</NamespaceType></NamespaceInfo></content></entry>`;
}
