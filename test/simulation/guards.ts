import type { Mutation } from "./mutation.ts";
import type { Focus } from "./simulate.ts";

/**
 * A rule of the protocol, and how to take it out of the engine. Where one guard is covered by another, so that taking it out alone
 * breaks nothing, all that cover each other are taken out.
 */
export interface Guard {
  /** Number in the protocol, and what is taken out. */
  readonly rule: string;
  readonly mutations?: readonly Mutation[];
  /** Takes out guards of the schema, where these would hide what is shown. */
  readonly ddl?: readonly string[];
  readonly claimIdInKeys?: false;
  readonly atomic?: false;
  /** What both runs, with the guard and without, are about. */
  readonly focus?: Focus;
  /** Finds the violation, and is clean with the guard. When the engine changes, another one may have to be found: search.ts. */
  readonly seed: number;
  /** What it finds. */
  readonly finds: RegExp;
}

/** Drops the check constraints of a table whose definition is like this. */
const dropConstraints = (table: string, like: string) => `
  do $$ declare name text; begin
    for name in select conname from pg_constraint where conrelid = '${table}'::regclass and pg_get_constraintdef(oid) like '${like}' loop
      execute format('alter table ${table} drop constraint %I', name);
    end loop;
  end $$`;
const dropTrigger = (table: string) => `drop trigger ${table}_status on ${table}`;

const jobIsAlive = {
  find: "jobs.status = 'processing' and stages.status in ('planning', 'open') and (tasks.status",
  replace: "(tasks.status",
};

export const guards: readonly Guard[] = [
  {
    rule: "1 the claim id is the fence",
    mutations: [{
      find: "where tasks.status = 'processing' and tasks.claim_id = ending.claim_id",
      replace: "where tasks.status = 'processing'",
    }],
    focus: { behaviours: ["slow"], cruelty: { stall: 0.12 } },
    seed: 10,
    finds: /another attempt/,
  },
  {
    // The status in the fence is redundant: the end of an attempt clears the claim, the schema insists on that, and on the
    // legal changes of a status.
    rule: "2 the fence has the status, the end of an attempt clears the claim",
    mutations: [
      { find: "tasks.status = 'processing' and tasks.claim_id = ending.claim_id", replace: "tasks.claim_id = ending.claim_id" },
      { find: "status = to_status, claim_id = null, runner_id = null,", replace: "status = to_status," },
    ],
    ddl: [dropConstraints("tasks", "%claim_id IS %"), dropTrigger("tasks")],
    focus: { behaviours: ["slow", "ok"], cruelty: { stall: 0.06 } },
    seed: 1,
    finds: /may not go|counters/,
  },
  {
    // Of a claim whose answer was lost: it is asked for again by its id, and if that were not, the sweep would see it outlive
    // its time-out.
    rule: "3 a claim with an unknown outcome is found again",
    mutations: [
      { find: "or tasks.status = 'processing' and tasks.claim_id = wanted.claim_id)", replace: ")" },
      { find: "or claimed_at < now() - (stages.timeout_ms + ?) * interval '1 ms')", replace: "or 0 > ?::int)" },
    ],
    focus: { behaviours: ["ok", "fails once"], cruelty: { answerLost: 0.15, crashBefore: 0, crashAfter: 0 } },
    seed: 6,
    finds: /never end/,
  },
  {
    rule: "4 failures are the budget, not attempts",
    mutations: [{ find: "outcome = 'failed' and failures + 1 >= bound", replace: "outcome = 'failed' and attempt >= bound" }],
    focus: { behaviours: ["fails"], cruelty: { crashAfter: 0.03 } },
    seed: 1,
    finds: /failed, .*, after/,
  },
  {
    rule: "4 interruptions are bounded",
    mutations: [{ find: "tasks.interruptions + 1 >= ? then", replace: "tasks.interruptions + 1 >= 1000 + ?::int then" }],
    seed: 1,
    finds: /interruptions/,
  },
  {
    rule: "5 claim-check keys contain the claim id",
    claimIdInKeys: false,
    focus: { behaviours: ["large"], cruelty: { late: 0.15, refused: 0, stall: 0 } },
    seed: 5,
    finds: /another attempt/,
  },
  {
    rule: "6 not_before is in the claim",
    mutations: [{
      find: "tasks.status = 'pending' and coalesce(tasks.not_before <= now(), true) and (wanted.alone",
      replace: "tasks.status = 'pending' and (wanted.alone",
    }],
    focus: { behaviours: ["ok", "fails once"], broker: { doubled: 0.5, delayed: 0.3 } },
    seed: 12,
    finds: /before it was due/,
  },
  {
    // One function opens the barrier at the seal, at a reopening and, if it was forgotten, in the sweep: all three are gone.
    rule: "7 the seal and the reopening evaluate the barrier",
    mutations: [{
      find: "where id = ? and status = 'open' and sealed and planned = completed + failed + cancelled",
      replace: "where id = ? and false",
    }],
    seed: 1,
    finds: /never end/,
  },
  {
    rule: "8 a stage is reduced under a lease",
    mutations: [{
      find: "stages.status in ('planning', 'reducing') and owner is null and failures < ?",
      replace: "stages.status in ('planning', 'reducing') and failures < ?",
    }],
    seed: 5,
    finds: /under the live lease/,
  },
  {
    // Any one of these is enough: a stage that closes loses its owner, and whatever stops a job closes its stages. The schema
    // would notice a lease without an owner.
    rule: "10 a planner inserts into a stage that is being planned, in a live job",
    mutations: [
      {
        find: "from jobs where id = ? and status = 'processing' for share ), stage as",
        replace: "from jobs where id = ? for share ), stage as",
      },
      {
        find: "run = ? and status = 'planning' and owner = ? and next_index = ? returning",
        replace: "run = ? and ?::text is not null and next_index = ? returning",
      },
    ],
    ddl: [dropConstraints("stages", "%owner IS NULL%")],
    focus: { behaviours: ["ok"], cancels: 1, takesMs: 5_000, cruelty: { stall: 0.12 } },
    seed: 1,
    finds: /was planned in/,
  },
  {
    // The cursor alone is redundant too, as two planners can't own the stage; with neither, one writes where the other is.
    rule: "10 a planner inserts where its cursor is, and owns the stage",
    mutations: [{
      find: "status = 'planning' and owner = ? and next_index = ? returning",
      replace: "status = 'planning' and ?::text is not null and ?::int >= 0 returning",
    }],
    ddl: ["alter table tasks drop constraint tasks_stage_id_index_key"],
    focus: { wide: true, takesMs: 6_000, cruelty: { stall: 0.06 } },
    seed: 1,
    finds: /next_index|differ|gaps/,
  },
  {
    // Owners are new at each claim, so owner and run cover each other.
    rule: "12 the decision compares run and owner",
    mutations: [{
      find: "id = ? and run = ? and status = 'reducing' and owner = ?",
      replace: "id = ? and ?::int > 0 and status = 'reducing' and ?::text is not null",
    }],
    focus: {
      behaviours: ["permanent"],
      decides: "retry always",
      takesMs: 3_500,
      cruelty: { stall: 0.08, refused: 0, crashBefore: 0, crashAfter: 0 },
    },
    seed: 15,
    finds: /was decided by/,
  },
  {
    // The schema refuses each of the changes as well.
    rule: "12 the decision is for a live job",
    mutations: [
      {
        find: "select epoch from jobs where id = ? and status = 'processing' for",
        replace: "select epoch from jobs where id = ? for",
      },
      { find: "id = ? and run = ? and status = 'reducing' and owner = ?", replace: "id = ? and run = ? and ?::text is not null" },
    ],
    ddl: [dropTrigger("jobs"), dropTrigger("stages")],
    focus: { behaviours: ["ok"], cancels: 1, takesMs: 5_000, cruelty: { stall: 0.12 } },
    seed: 82,
    finds: /./,
  },
  { rule: "12 one transaction holds the decision and what follows", atomic: false, seed: 14, finds: /./ },
  {
    rule: "13 retry_stage is bounded",
    mutations: [{ find: "stages.failed, stages.retries", replace: "stages.failed, 0 as retries" }],
    focus: { behaviours: ["ok"], decides: "retry always" },
    seed: 1,
    finds: /retries/,
  },
  {
    rule: "13 interruptions of a stage are bounded",
    mutations: [
      { find: "interruptions >= ? as exhausted", replace: "interruptions >= 1000 + ?::int as exhausted" },
      { find: "from freed where interruptions < ?)", replace: "from freed where interruptions < 1000 + ?::int)" },
      { find: "and (interruptions >= ? or failures", replace: "and (interruptions >= 1000 + ?::int or failures" },
      { find: "and interruptions < ? -- or its job", replace: "and ?::int > 0 -- or its job" },
    ],
    focus: { takesMs: 6_000, cruelty: { crashAfter: 0.04, stall: 0.04 } },
    seed: 7,
    finds: /interruptions/,
  },
  {
    rule: "13 failures of a stage are bounded",
    mutations: [
      { find: "select failures from released", replace: "select 0 as failures from released" },
      { find: "or failures >= ? and hinted_at", replace: "or failures >= 1000 + ?::int and hinted_at" },
      { find: "and failures < ? and interruptions < ?", replace: "and ?::int > 0 and interruptions < ?" },
    ],
    seed: 7,
    finds: /failures/,
  },
  {
    rule: "14 batch ids contain the stage's run",
    mutations: [
      { find: "'-s' || stages.number || '-r' || stages.run || '-b' || start", replace: "'-s' || stages.number || '-b' || start" },
      {
        find: "'-s' || stage.number || '-r' || run || '-b' || min(task.index)",
        replace: "'-s' || stage.number || '-b' || min(task.index)",
      },
    ],
    focus: { behaviours: ["ok", "fails"], decides: "retry always" },
    seed: 1,
    finds: /neither processing, nor unsent/,
  },
  {
    // With the run in the id there is no conflict to ignore; without both, the last task of a second run never commits.
    rule: "14 an insert into the outbox ignores a conflict",
    mutations: [
      { find: "'-s' || number || '-r' || counting.run || '-complete'", replace: "'-s' || number || '-complete'" },
      {
        find: "from counting join jobs on jobs.id = job_id where counting.status = 'reducing' on conflict (batch_id) do nothing",
        replace: "from counting join jobs on jobs.id = job_id where counting.status = 'reducing'",
      },
    ],
    focus: { behaviours: ["ok", "fails"], decides: "retry always" },
    seed: 1,
    finds: /./,
  },
  {
    rule: "14 each retry has a hint of its own",
    mutations: [{ find: "'-t' || index || '-a' || attempt, job_id", replace: "'-t' || index, job_id" }],
    seed: 1,
    finds: /neither processing, nor unsent/,
  },
  {
    rule: "14 each re-send has a new number",
    mutations: [{ find: "|| '-a' || attempt || '-h' || resends", replace: "|| '-a' || attempt || '-h'" }],
    focus: { behaviours: ["ok"], broker: { lost: 0.7 } },
    seed: 1,
    finds: /neither processing, nor unsent/,
  },
  {
    rule: "21 the sweep frees stages whose planner is gone",
    mutations: [{
      find: "where status in ('planning', 'reducing') and lease_until < now()",
      replace: "where status = 'reducing' and lease_until < now()",
    }],
    seed: 2,
    finds: /never end/,
  },
  {
    rule: "21 the sweep frees stages whose reducer is gone",
    mutations: [{
      find: "where status in ('planning', 'reducing') and lease_until < now()",
      replace: "where status = 'planning' and lease_until < now()",
    }],
    seed: 6,
    finds: /never end/,
  },
  {
    rule: "21 the sweep frees tasks whose runner is gone",
    mutations: [{
      find: "coalesce(runners.lease_until < now(), true) or claimed_at < now() - (stages.timeout_ms + ?)",
      replace: "?::int < 0 or claimed_at < now() - 1e6::float * (stages.timeout_ms)",
    }],
    seed: 1,
    finds: /never end/,
  },
  {
    rule: "21 the sweep sends lost hints of tasks again",
    mutations: [{ find: "outbox.status = 'queued' and sent_at < now() -", replace: "false and sent_at < now() -" }],
    focus: { broker: { lost: 0.4 } },
    seed: 3,
    finds: /never end/,
  },
  {
    rule: "21 the sweep sends lost hints of stages again",
    mutations: [{
      find: "and hinted_at < now() - ? * interval '1 ms' * 2",
      replace: "and hinted_at < now() - 1e6::float * ? * interval '1 ms' * 2",
    }],
    focus: { broker: { lost: 0.4 } },
    seed: 1,
    finds: /never end/,
  },
  {
    rule: "21 the sweep sends lost hints of jobs again",
    mutations: [{
      find: "and updated_at < now() - ? * interval '1 ms' * 2",
      replace: "and updated_at < now() - 1e6::float * ? * interval '1 ms' * 2",
    }],
    focus: { broker: { lost: 0.4 } },
    seed: 3,
    finds: /never end/,
  },
  {
    rule: "22 what frees a task repeats that its lease expired",
    mutations: [{ find: "(coalesce(runners.lease_until < now(), true) or claimed_at", replace: "(true or claimed_at" }],
    seed: 1,
    finds: /while its attempt was alive/,
  },
  {
    rule: "22 what frees a stage repeats that its lease expired",
    mutations: [{
      find: "where status in ('planning', 'reducing') and lease_until < now()",
      replace: "where status in ('planning', 'reducing') and owner is not null",
    }],
    seed: 1,
    finds: /under a live lease/,
  },
  {
    // Whatever stops a job closes its stages, so either condition is enough.
    rule: "25 tasks are claimed in live jobs only",
    mutations: [jobIsAlive],
    focus: { behaviours: ["ok", "fails once"], cancels: 1 },
    seed: 5,
    finds: /was claimed in/,
  },
  {
    // Closing leaves nothing open, and the end of the job makes sure of it: either is enough.
    rule: "27 a stopping job ends last",
    mutations: [
      {
        find:
          "and not exists ( select from stages where job_id = jobs.id and discarded_at is null and planned > completed + failed + cancelled)",
        replace: "",
      },
      {
        find: "and tasks.status not in ('completed', 'failed', 'cancelled')",
        replace: "and tasks.status not in ('completed', 'failed', 'cancelled', 'processing')",
      },
    ],
    focus: { behaviours: ["slow"], cancels: 1 },
    seed: 1,
    finds: /ended job has an open task/,
  },
];
