-- Redrives: failed work that an operator has opened again, and what became of each piece.

alter table tasks
  add column reopened integer not null default 0, -- times that an operator had it opened again; only rises
  add column retry_run integer; -- the run of its job that is to open it again, when that starts
alter table jobs
  add column resume_selected boolean not null default false; -- of the failed tasks, this run opens those alone that say so

alter table poison_messages
  add column status_by text, -- who redrove, discarded or restored it
  add column status_at timestamptz;
create index poison_messages_of_task on poison_messages ((task_ids[1])) where cardinality(task_ids) = 1;

create table redrives (
  id bigint generated always as identity primary key,
  status text not null default 'selecting' check (status in ('selecting', 'preview', 'running', 'stopped', 'completed')),
  selection jsonb not null, -- as it was asked for
  edit jsonb, -- what is changed in the parameters of its tasks
  rate_per_second float8 check (rate_per_second > 0), -- null: as fast as it goes
  canary integer not null default 0 check (canary >= 0), -- so many first; the rest when their outcome is known
  max_failure_share float8 not null check (max_failure_share between 0 and 1),
  items integer not null default 0,
  preview jsonb,
  next_at timestamptz, -- when the rate allows the next item
  requested_by text not null,
  note text,
  started_by text,
  stopped_by text, -- null though stopped: by itself
  stop_reason text,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  stopped_at timestamptz,
  ended_at timestamptz, -- every outcome is known
  check ((status = 'stopped') = (stopped_at is not null)),
  check (status <> 'completed' or ended_at is not null)
);
create index redrives_alive on redrives (id) where status in ('running', 'stopped') and ended_at is null;

create table redrive_items ( -- the frozen selection
  id bigint generated always as identity primary key,
  redrive_id bigint not null references redrives on delete cascade,
  kind text not null check (kind in ('task', 'job')), -- 'job': a hint of a stage or of a start; its job is retried
  poison_id bigint, -- null: the row alone says that it failed
  job_id text,
  stage_id bigint,
  task_id bigint,
  attempt integer, -- of the task when it was frozen; together with the next one it tells whether the row has moved on
  reopened integer,
  status text not null default 'waiting'
    check (status in ('waiting', 'opened', 'succeeded', 'failed-again', 'cancelled', 'skipped', 'refused')),
  reason text, -- why it was skipped or refused
  detail text,
  tries integer not null default 0, -- times it was put off, as its stage was being reduced
  try_at timestamptz not null default '-infinity',
  job_run integer, -- the run of the job that it was opened in
  parameters jsonb, -- edited
  original jsonb, -- what the parameters were before, if they were edited
  opened_at timestamptz,
  settled_at timestamptz,
  check ((status in ('skipped', 'refused')) <= (reason is not null)),
  check (status not in ('opened', 'succeeded', 'failed-again', 'cancelled') or opened_at is not null)
);
create index redrive_items_listed on redrive_items (redrive_id, id);
create index redrive_items_waiting on redrive_items (redrive_id, try_at, id) where status = 'waiting';
create index redrive_items_waiting_of_job on redrive_items (redrive_id, job_id, id) where status = 'waiting';
create index redrive_items_opened on redrive_items (redrive_id, id) where status = 'opened';
create unique index redrive_items_one_redrive on redrive_items (task_id) where status = 'opened'; -- a message is in one redrive at a time
create unique index redrive_items_once on redrive_items (redrive_id, task_id) where task_id is not null and status <> 'refused';
create index redrive_items_of_message on redrive_items (poison_id) where poison_id is not null;
