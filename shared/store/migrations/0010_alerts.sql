-- Where failures arose in our own code, and who is told about them.

alter table poison_groups add column at text; -- file and function; null: alike by their message
create index poison_messages_by_time on poison_messages (first_seen_at);

create table alerts (
  id bigint generated always as identity primary key,
  kind text not null check (kind in ('unhandled', 'contradiction', 'rate-jump')),
  fingerprint text not null references poison_groups,
  poison_id bigint references poison_messages on delete set null, -- the first that it is about
  occurrences bigint not null,
  -- open: still counting, until it may be told; sending: what it says is fixed
  status text not null default 'open' check (status in ('open', 'sending', 'sent', 'logged', 'dead')),
  attempts integer not null default 0,
  due_at timestamptz not null default now(), -- while it is sending: the next attempt, or the end of the one that runs
  last_error text,
  created_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now(), -- its last occurrence
  told_at timestamptz, -- when it stopped counting
  ended_at timestamptz,
  check ((status = 'open') = (told_at is null)),
  check ((status in ('sent', 'logged', 'dead')) = (ended_at is not null))
);
create unique index alerts_open on alerts (fingerprint, kind) where status = 'open';
create index alerts_due on alerts (due_at) where status in ('open', 'sending');
create index alerts_of_group on alerts (fingerprint, kind, told_at);
