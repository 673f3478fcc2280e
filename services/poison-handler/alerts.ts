import type { Logger } from "pino";
import { Webhook } from "standardwebhooks";
import { runRounds } from "../../shared/rounds.ts";
import { type Alert, claimAlerts, endAlertAttempt, raiseRateJumps } from "../../shared/store/alerts.ts";
import type { Sql } from "../../shared/store/database.ts";

export interface Alerts {
  readonly sql: Sql;
  readonly log: Logger;
  /** Null: alerts are only logged. */
  readonly webhook: { readonly url: string; readonly secret: string } | null;
}

export interface AlertTimes {
  /** Between two alerts of one kind about one group. */
  readonly quietMs: number;
  readonly timeoutMs: number;
  /** After the first failed attempt; doubled with each, up to an hour. */
  readonly backoffMs: number;
  /** Attempts in all. With the default pauses, the last is about 90 minutes after the first. */
  readonly maxAttempts: number;
}
export const alertTimes: AlertTimes = { quietMs: 900_000, timeoutMs: 10_000, backoffMs: 5_000, maxAttempts: 11 };

const roundMs = 1_000;
const rateRoundMs = 30_000;
const atOnce = 20;

/** Raises and tells alerts until the signal is aborted; resolves when the attempt that runs then has ended. */
export async function runAlerts(alerts: Alerts, signal: AbortSignal): Promise<void> {
  const { sql, log } = alerts;
  let ratesAt = performance.now() + rateRoundMs * Math.random();
  let failures = 0;
  await runRounds(async () => {
    if (performance.now() >= ratesAt) {
      ratesAt = performance.now() + rateRoundMs;
      await raiseRateJumps(sql, alertTimes);
    }
    const told = await tellAlerts(alerts, alertTimes, signal);
    failures = 0;
    return told === atOnce;
  }, {
    intervalMs: roundMs,
    signal,
    onError(error) {
      if (failures++ === 0) log.warn({ err: error }, "can't read the alerts");
    },
  });
}

/**
 * One attempt for each alert that is due, at most 20; returns how many there were. An attempt that is never recorded, as its process
 * died, is repeated when its lease has ended: a receiver may get an alert twice, under the same `webhook-id`.
 */
export async function tellAlerts(
  { sql, log, webhook }: Alerts,
  { quietMs, timeoutMs, backoffMs, maxAttempts }: AlertTimes,
  signal: AbortSignal,
): Promise<number> {
  const claimed = await claimAlerts(sql, { quietMs, leaseMs: timeoutMs + 30_000, limit: atOnce });
  await Promise.all(claimed.map(async (alert) => {
    const { alertId, kind, fingerprint, code, taskType, stageName, occurrences, poisonId, jobId, attempt } = alert;
    const line = { alertId, kind, fingerprint, code, taskType, stageName, occurrences, poisonId, jobId };
    if (attempt === 1) log[kind === "contradiction" ? "warn" : "error"](line, "poison alert");
    if (!webhook) return await endAlertAttempt(sql, alert, { outcome: "logged" });
    const error = await post(webhook, alert, AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]));
    if (error === null) return await endAlertAttempt(sql, alert, { outcome: "sent" });
    const isLast = attempt >= maxAttempts;
    const retryMs = Math.min(3_600_000, backoffMs * 2 ** (attempt - 1)) * (0.8 + 0.4 * Math.random());
    log[isLast ? "error" : "warn"]({ alertId, kind, fingerprint, attempt, error }, isLast ? "alert given up" : "alert not sent");
    await endAlertAttempt(sql, alert, { outcome: "failed", error, retryMs: isLast ? null : retryMs });
  }));
  return claimed.length;
}

/**
 * What went wrong; null: it was accepted. Never names the URL, which may hold a secret, as errors of `fetch` may: hence no message
 * of theirs.
 */
async function post(webhook: { url: string; secret: string }, alert: Alert, signal: AbortSignal): Promise<string | null> {
  const body = JSON.stringify(describeAlert(alert));
  const id = `alert-${alert.alertId}`;
  const now = new Date();
  try {
    const response = await fetch(webhook.url, {
      method: "POST",
      body,
      headers: {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": String(Math.floor(now.getTime() / 1_000)),
        "webhook-signature": new Webhook(webhook.secret).sign(id, now, body),
      },
      redirect: "manual", // the signed alert is for this address, not for whoever it points to
      signal,
    });
    await response.body?.cancel();
    return response.ok ? null : `answered ${response.status}`;
  } catch (error) {
    if (!(error instanceof Error)) return "not reached";
    if (error.name === "TimeoutError") return "no answer in time";
    if (error.name === "AbortError") return "stopped";
    const { cause } = error;
    return cause instanceof Error && "code" in cause ? `not reached: ${cause.code}` : "not reached";
  }
}

/** No bodies and no messages of errors: these are where the links lead, to those who may see them. */
function describeAlert(alert: Alert) {
  return {
    type: `poison.${alert.kind}`,
    timestamp: alert.toldAt.toISOString(),
    data: {
      fingerprint: alert.fingerprint,
      code: alert.code,
      task_type: alert.taskType,
      stage_name: alert.stageName,
      occurrences: alert.occurrences,
      since: alert.createdAt.toISOString(),
      first_message: alert.poisonId,
      job_id: alert.jobId,
      links: {
        group: `/api/poison/groups/${alert.fingerprint}`,
        ...(alert.poisonId !== null && { message: `/api/poison/messages/${alert.poisonId}` }),
        ...(alert.jobId !== null && { job: `/api/jobs/status/${alert.jobId}` }),
      },
    },
  };
}
