-- Where new jobs go whose client doesn't say, and how each job came to where it is.

create table routing_rules (
  job_type text primary key check (length(job_type) between 1 and 100), -- '*': of types without a rule of their own
  transport text not null check (transport in ('service_bus', 'storage_queue', 'bullmq')),
  percent double precision not null check (percent between 0 and 100), -- of the jobs, stable per job id
  min_tasks integer not null default 0 check (min_tasks >= 0), -- smaller jobs, by the type's own estimate, go elsewhere
  updated_at timestamptz not null default now()
);

alter table jobs
  add column routed_by text check (routed_by in ('request', 'rule', 'default')),
  add column fallback_from text check (fallback_from in ('service_bus', 'storage_queue', 'bullmq')), -- the broker that was away
  add column rehomed_at timestamptz;
create index jobs_rehomed on jobs (rehomed_at) where rehomed_at is not null;
