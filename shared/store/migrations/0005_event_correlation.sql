-- Every event carries the correlation id of its job, whichever statement writes it.

alter table events add column correlation_id text;

create function correlate_event() returns trigger language plpgsql as $$
begin
  new.correlation_id := (select correlation_id from jobs where id = new.job_id);
  return new;
end $$;
create trigger events_correlation before insert on events for each row when (new.job_id is not null and new.correlation_id is null)
  execute function correlate_event();
update events set correlation_id = jobs.correlation_id from jobs where jobs.id = job_id;
