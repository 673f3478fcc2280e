/** What Azure writes where there is no limit: the longest duration of .NET. */
const forever = "P10675199DT2H48M5.4775807S";
const longestMs = 10_675_199 * 86_400_000;

export function formatDuration(ms: number): string {
  if (ms >= longestMs) return forever;
  if (ms === 0) return "PT0S";
  const days = Math.floor(ms / 86_400_000);
  const hours = Math.floor(ms / 3_600_000) % 24;
  const minutes = Math.floor(ms / 60_000) % 60;
  const seconds = (ms % 60_000) / 1_000;
  const time = (hours ? `${hours}H` : "") + (minutes ? `${minutes}M` : "") + (seconds ? `${seconds}S` : "");
  return `P${days ? `${days}D` : ""}${time ? `T${time}` : ""}`;
}

/** Milliseconds; Infinity for the longest; undefined if it is no duration. */
export function parseDuration(text: string): number | undefined {
  const match = /^P(?=.)(?:(\d+)D)?(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$/.exec(text);
  if (!match) return undefined;
  const [days = 0, hours = 0, minutes = 0, seconds = 0] = match.slice(1).map((part) => Number(part ?? 0));
  const ms = ((days * 24 + hours) * 60 + minutes) * 60_000 + Math.round(seconds * 1_000);
  return ms >= longestMs ? Infinity : ms;
}
