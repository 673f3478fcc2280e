-- What a client's Idempotency-Key stood for, as long as its job is there.

create table idempotency_keys (
  key text primary key check (length(key) between 1 and 255),
  fingerprint text not null, -- sha256 of the job type and the body that came with it
  job_id text not null references jobs on delete cascade deferrable initially deferred, -- the key is taken first, its job comes next
  created_at timestamptz not null default now()
);
create index idempotency_keys_of_job on idempotency_keys (job_id);

-- The failed among millions, newest first.
create index tasks_failed on tasks (id) where status = 'failed';
