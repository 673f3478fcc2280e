export const rights = ["Send", "Listen", "Manage"] as const;
export type Right = (typeof rights)[number];

export interface SharedAccessKey {
  readonly key: string;
  /** Manage includes the other two. */
  readonly rights: readonly Right[];
  /** The one queue it is for; without it, all of the namespace. */
  readonly queue?: string;
}

export type SharedAccessKeys = Readonly<Record<string, SharedAccessKey>>;

/** The name and the key of Microsoft's emulator: no secret, for the loopback address only. */
export const developmentKeyName = "RootManageSharedAccessKey";
export const developmentKeys: SharedAccessKeys = { [developmentKeyName]: { key: "SAS_KEY_VALUE", rights: ["Manage"] } };

export function includesRight(given: readonly Right[], needed: Right): boolean {
  return given.includes(needed) || given.includes("Manage");
}
