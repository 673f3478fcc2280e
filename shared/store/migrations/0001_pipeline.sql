-- Jobs, their stages, the tasks of these, and what is to be sent. Time is always the database's now().

-- The last guard of shared/status.ts: the arguments are the legal changes, 'from>to'.
create function guard_status() returns trigger language plpgsql as $$
begin
  if old.status || '>' || new.status = any (tg_argv) then
    return new;
  end if;
  raise exception '% % may not go from % to %', tg_table_name, old.id, old.status, new.status
    using errcode = 'check_violation', constraint = tg_table_name || '_status_transition';
end $$;

create table jobs (
  id text primary key check (id ~ '^[0-9a-f]{64}$'),
  job_type text not null,
  parameters jsonb not null,
  processing_path text not null check (processing_path in ('service_bus', 'storage_queue', 'bullmq')),
  status text not null default 'queued'
    check (status in ('queued', 'processing', 'stopping', 'completed', 'completed_with_errors', 'failed', 'cancelled')),
  stop_as text check (stop_as in ('failed', 'cancelled')), -- what a stopping job will be
  run integer not null default 1 check (run >= 1),
  epoch integer not null default 0, -- runs of stages handed out so far; only rises
  resume_from integer,
  current_stage integer not null default 1,
  total_stages integer not null check (total_stages >= 1),
  correlation_id text not null,
  result jsonb,
  error jsonb,
  start_sends integer not null default 1, -- sendings of the start hint
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  started_at timestamptz,
  ended_at timestamptz,
  check ((status = 'stopping') = (stop_as is not null)),
  check ((status in ('completed', 'completed_with_errors', 'failed', 'cancelled')) = (ended_at is not null))
);
create index jobs_by_creation on jobs (created_at desc, id);
create index jobs_alive on jobs (status) where status in ('queued', 'processing', 'stopping');
create trigger jobs_status before update of status on jobs for each row when (old.status is distinct from new.status)
  execute function guard_status('queued>processing', 'queued>stopping', 'processing>completed', 'processing>completed_with_errors',
    'processing>failed', 'processing>stopping', 'stopping>cancelled', 'stopping>failed', 'completed>queued',
    'completed_with_errors>queued', 'failed>queued', 'cancelled>queued');

create table stages (
  id bigint generated always as identity primary key,
  job_id text not null references jobs on delete cascade,
  number integer not null check (number >= 1),
  name text not null,
  task_type text not null,
  queue text not null, -- 'tasks', or the queue of its own that the stage names
  tasks_per_message integer not null default 1 check (tasks_per_message between 1 and 100),
  timeout_ms integer not null, -- of one attempt of one task
  status text not null default 'planning' check (status in ('planning', 'open', 'reducing', 'completed', 'failed', 'cancelled')),
  run integer not null,
  planned integer not null default 0,
  sealed boolean not null default false,
  completed integer not null default 0 check (completed >= 0),
  failed integer not null default 0 check (failed >= 0),
  cancelled integer not null default 0 check (cancelled >= 0),
  next_index integer not null default 0, -- where planning goes on
  owner text, -- the orchestrator that plans or reduces, under a lease
  lease_until timestamptz,
  failures integer not null default 0, -- plan, reduce or decide threw
  interruptions integer not null default 0, -- their lease expired
  retries integer not null default 0, -- retry_stage decisions
  not_before timestamptz,
  sends integer not null default 1, -- sendings of the stage's hint
  hinted_at timestamptz not null default now(),
  barrier_opened integer not null default 0, -- the run whose barrier opened last
  result jsonb, -- the StageResult
  error jsonb,
  discarded_at timestamptz, -- an earlier stage was opened again; kept as history
  created_at timestamptz not null default now(),
  sealed_at timestamptz,
  reducing_at timestamptz,
  ended_at timestamptz,
  check (completed + failed + cancelled <= planned),
  check ((owner is null) = (lease_until is null)),
  check (status <> 'reducing' or (sealed and completed + failed + cancelled = planned))
);
create unique index stages_of_job on stages (job_id, number) where discarded_at is null;
create index stages_alive on stages (status) where status in ('planning', 'open', 'reducing');
create trigger stages_status before update of status on stages for each row when (old.status is distinct from new.status)
  execute function guard_status('planning>open', 'planning>failed', 'planning>cancelled', 'open>reducing', 'open>failed',
    'open>cancelled', 'reducing>completed', 'reducing>failed', 'reducing>cancelled', 'reducing>open', 'completed>open',
    'completed>planning', 'failed>open', 'failed>planning', 'cancelled>open', 'cancelled>planning');

-- What is to be sent, in batches of at most 100 messages. Message ids are id + send number + position.
create table outbox (
  id bigint generated by default as identity primary key,
  batch_id text not null unique,
  job_id text not null references jobs on delete cascade,
  stage_id bigint references stages on delete cascade,
  transport text not null,
  queue text not null, -- 'jobs', 'stages', 'tasks' or a stage's own; the transport knows what these are called there
  kind text not null check (kind in ('start-job', 'stage', 'tasks')),
  run integer not null, -- of the job (start-job) or the stage
  task_ids bigint[] not null default '{}',
  tasks_per_message integer not null default 1 check (tasks_per_message between 1 and 100),
  urgent boolean not null default false, -- sent before, and interrupted or lost: it waits for no room in the send window
  status text not null default 'pending_queue' check (status in ('pending_queue', 'queued')),
  not_before timestamptz not null default now(),
  sends integer not null default 0, -- times a sending was begun
  locked_by text, -- who is sending it now, under a lease
  locked_until timestamptz,
  failures integer not null default 0,
  last_error text,
  created_at timestamptz not null default now(),
  sent_at timestamptz,
  check ((kind = 'tasks') = (cardinality(task_ids) > 0)),
  check (kind = 'start-job' or stage_id is not null)
);
create index outbox_unsent_hints on outbox (transport, not_before) where status = 'pending_queue' and kind <> 'tasks';
create index outbox_unsent_tasks on outbox (stage_id, not_before) where status = 'pending_queue' and kind = 'tasks';
create index outbox_of_job on outbox (job_id, id);

create table runners (
  id text primary key, -- new at each start of a process
  processing_path text not null,
  queue text not null,
  started_at timestamptz not null default now(),
  lease_until timestamptz not null
);

create table leases ( -- what only one process does at a time, such as the sweep
  name text primary key,
  owner text not null,
  lease_until timestamptz not null
);

create table tasks (
  id bigint generated always as identity primary key,
  stage_id bigint not null references stages on delete cascade,
  index integer not null check (index >= 0),
  parameters jsonb not null,
  status text not null default 'pending' check (status in ('pending', 'processing', 'completed', 'failed', 'cancelled')),
  attempt integer not null default 0, -- claims; only rises
  claim_id text, -- the fence of the attempt that runs
  runner_id text,
  claimed_at timestamptz,
  failures integer not null default 0, -- attempts that ended in an error
  interruptions integer not null default 0, -- attempts that ended in nothing
  deferrals integer not null default 0, -- claims by a process that didn't know the type
  resends integer not null default 0, -- hints the sweep sent again
  not_before timestamptz, -- null: due at once
  outbox_id bigint not null, -- the batch that carries its newest hint
  result jsonb,
  result_ref text, -- claim check of a large result
  result_attempt integer,
  error jsonb, -- of the last failed attempt
  created_at timestamptz not null default now(),
  ended_at timestamptz,
  unique (stage_id, index),
  check ((status = 'processing') = (claim_id is not null)),
  check ((claim_id is null) = (runner_id is null)),
  check ((status = 'completed') = (result is not null or result_ref is not null)),
  check (status <> 'completed' or result_attempt = attempt)
);
create index tasks_open on tasks (stage_id) where status in ('pending', 'processing');
create index tasks_running on tasks (runner_id) where status = 'processing';
create trigger tasks_status before update of status on tasks for each row when (old.status is distinct from new.status)
  execute function guard_status('pending>processing', 'pending>failed', 'pending>cancelled', 'processing>completed',
    'processing>failed', 'processing>cancelled', 'processing>pending', 'failed>pending', 'cancelled>pending');

create table events (
  id bigint generated always as identity primary key,
  job_id text references jobs on delete cascade,
  stage_id bigint,
  task_id bigint,
  kind text not null,
  details jsonb not null default '{}',
  created_at timestamptz not null default now()
);
create index events_of_job on events (job_id, id);
