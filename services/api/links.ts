/** Where a job can be looked at. */
export function jobLinks(jobId: string) {
  return {
    status: `/api/jobs/status/${jobId}`,
    job: `/api/db/jobs/${jobId}`,
    tasks: `/api/db/tasks/${jobId}`,
    batches: `/api/db/batches/${jobId}`,
    poison: `/api/poison/messages?job_id=${jobId}`,
  };
}
