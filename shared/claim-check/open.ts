import type { BlobAccount } from "../blob-storage/account.ts";
import { createBlobClaimCheck } from "./blob.ts";
import type { ClaimCheck } from "./claim-check.ts";
import { createFilesystemClaimCheck } from "./filesystem.ts";

export type ClaimCheckLocation = (BlobAccount & { readonly container: string }) | { readonly directory: string };

export function openClaimCheck(location: ClaimCheckLocation): ClaimCheck {
  return "directory" in location ? createFilesystemClaimCheck(location.directory) : createBlobClaimCheck(location);
}
