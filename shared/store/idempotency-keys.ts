import { type Sql, withConflictRetry } from "./database.ts";
import { type Submission, submitJob, type SubmittedJob } from "./jobs.ts";

export interface IdempotencyKey {
  readonly key: string;
  /** Tells one request from another. */
  readonly fingerprint: string;
}

/**
 * Submits a job under a client's key: the key and the job commit together. The same request under the same key finds the job of
 * the first, even if it would have another id today. Null if the key stands for another request.
 */
export async function submitJobUnderKey(
  sql: Sql,
  sender: string,
  { key, fingerprint }: IdempotencyKey,
  submission: Submission,
): Promise<SubmittedJob & { readonly jobId: string } | null> {
  return await withConflictRetry(() =>
    sql.begin(async (tx) => {
      // Waits for another request with this key to commit.
      const taken = await tx`
      insert into idempotency_keys (key, fingerprint, job_id) values (${key}, ${fingerprint}, ${submission.jobId})
      on conflict (key) do nothing`;
      if (taken.count === 1) return { jobId: submission.jobId, ...await submitJob(tx, sender, submission) };
      const [known] = await tx<{ fingerprint: string; jobId: string }[]>`
      select fingerprint, job_id as "jobId" from idempotency_keys where key = ${key}`;
      if (known?.fingerprint !== fingerprint) return null;
      return { jobId: known.jobId, ...await submitJob(tx, sender, { ...submission, jobId: known.jobId }) };
    })
  );
}
