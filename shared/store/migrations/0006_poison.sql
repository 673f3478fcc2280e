-- What died on its way: every message that was found in a dead-letter or poison queue, and every task that failed without one.

create table poison_groups ( -- failures that look alike
  fingerprint text primary key check (fingerprint ~ '^[0-9a-f]{16}$'),
  code text not null,
  message text not null, -- without numbers, ids and quotes
  task_type text,
  stage_name text,
  messages bigint not null default 0,
  first_seen_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  resolved_at timestamptz,
  regressed_at timestamptz -- seen again after it was resolved
);
create index poison_groups_by_time on poison_groups (last_seen_at desc, fingerprint);

create table poison_messages (
  id bigint generated always as identity primary key,
  origin text not null check (origin in ('message', 'row')), -- 'row': the task failed, and no message of it alone could say so
  transport text not null check (transport in ('service_bus', 'storage_queue', 'bullmq')),
  queue text not null, -- the queue it was for, as its broker calls it
  identity text not null, -- what the broker itself knows it by
  message_id text,
  reason text not null, -- ours, or the broker's
  description text not null default '',
  delivery_count integer,
  body_head text not null default '', -- the first 1,000 characters
  body_size integer not null default 0, -- characters
  body_hash text, -- sha256
  body_ref text, -- claim check of a body that is longer than its head
  kind text check (kind in ('start-job', 'stage', 'tasks')), -- null: its body breaks every contract
  job_id text, -- salvaged, or as the body says; the rows may be gone
  stage_id bigint,
  task_ids bigint[] not null default '{}',
  run integer,
  verdict text check (verdict in
    ('expected', 'recovered', 'unhandled', 'contradiction', 'alive', 'stale', 'split', 'orphan', 'unreadable')),
  judged_at timestamptz,
  attempt integer, -- of the one task it speaks of, when it was judged
  error jsonb, -- the task's, then
  fingerprint text references poison_groups,
  status text not null default 'new' check (status in ('new', 'redriven', 'discarded')),
  sightings integer not null default 1, -- times it was received
  first_seen_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  unique (transport, queue, identity),
  check ((verdict is null) = (judged_at is null)),
  check (verdict is null or fingerprint is not null)
);
create index poison_messages_unjudged on poison_messages (id) where verdict is null;
create index poison_messages_of_job on poison_messages (job_id, id) where job_id is not null;
create index poison_messages_of_group on poison_messages (fingerprint, first_seen_at);

-- Times that the newest hint of a row ended as poison while the row was waiting for it.
alter table jobs add column poisonings integer not null default 0;
alter table stages add column poisonings integer not null default 0;
alter table tasks add column poisonings integer not null default 0;
