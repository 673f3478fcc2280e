-- A stage may have a deadline: what of it is still open then has failed.

alter table stages
  add column deadline_ms bigint check (deadline_ms > 0),
  add column deadline_at timestamptz;
