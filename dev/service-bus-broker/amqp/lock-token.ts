import { randomUUID } from "node:crypto";

/** A lock token is the 32 hexadecimal digits of a UUID. */
export function createLockToken(): string {
  return randomUUID().replaceAll("-", "");
}

/** As a delivery carries it: in the byte order of a .NET Guid. */
export function deliveryTagOf(lockToken: string): Buffer {
  const tag = Buffer.from(lockToken, "hex");
  tag.subarray(0, 4).reverse();
  tag.subarray(4, 6).reverse();
  tag.subarray(6, 8).reverse();
  return tag;
}

/** As `$management` carries it. */
export function uuidOf(lockToken: string): Buffer {
  return Buffer.from(lockToken, "hex");
}
