-- Reconciliation: the rows balanced against each other and against the brokers. Requested by the api, a command or the schedule;
-- executed by the poison-handler, one run at a time.

create table reconciliation_runs (
  id bigint generated always as identity primary key,
  mode text not null check (mode in ('dry-run', 'apply')),
  status text not null default 'requested' check (status in ('requested', 'running', 'completed', 'failed')),
  requested_by text not null check (requested_by in ('api', 'command', 'schedule')),
  correlation_id text, -- of the request
  requested_at timestamptz not null default now(),
  executor text, -- the poison-handler that took it
  started_at timestamptz,
  finished_at timestamptz,
  schema_version text, -- the newest migration that was applied
  previous_run bigint references reconciliation_runs on delete set null, -- the last one that completed before it
  events_until bigint, -- the newest event when it began: the next run reads on from there
  summary jsonb,
  error jsonb,
  check ((status = 'requested') = (started_at is null)),
  check ((status in ('completed', 'failed')) = (finished_at is not null)),
  check (status <> 'completed' or summary is not null),
  check ((status = 'failed') = (error is not null))
);
create index reconciliation_runs_waiting on reconciliation_runs (id) where status in ('requested', 'running');
create index reconciliation_runs_previous on reconciliation_runs (previous_run);

create table reconciliation_findings ( -- the first of each kind; the summary counts all
  id bigint generated always as identity primary key,
  run_id bigint not null references reconciliation_runs on delete cascade,
  kind text not null,
  severity text not null check (severity in ('info', 'warning', 'error')),
  subject_type text not null check (subject_type in ('job', 'stage', 'task', 'batch', 'runner', 'queue', 'poison-message', 'schema')),
  subject_id text not null,
  job_id text, -- no references: the rows may be gone, or were never there
  stage_id bigint,
  task_id bigint,
  transport text,
  queue text,
  message text not null,
  suggested_action text not null,
  repairable boolean not null,
  repaired_at timestamptz
);
create index reconciliation_findings_of_run on reconciliation_findings (run_id, kind, id);
