import type { AzureStorage } from "../azure-storage.ts";
import type { CommonEnvironment } from "../environment.ts";
import type { ClaimCheck } from "./claim-check.ts";
import { openClaimCheck } from "./open.ts";

/** Claim checks in the directory that the environment names, or else in its Blob account. */
export function openClaimCheckFromEnvironment(environment: CommonEnvironment, azure: AzureStorage): ClaimCheck {
  const { CLAIM_CHECK_DIRECTORY, CLAIM_CHECK_CONTAINER } = environment;
  if (CLAIM_CHECK_DIRECTORY) return openClaimCheck({ directory: CLAIM_CHECK_DIRECTORY });
  return openClaimCheck({ ...azure.blobAccount(), container: CLAIM_CHECK_CONTAINER });
}
