-- How often a process met a job's type that it does not know: a bound of its own, as tasks have one.

alter table jobs add column deferrals integer not null default 0;
alter table stages add column deferrals integer not null default 0;
