import * as v from "valibot";
import { verdicts } from "../store/poison.ts";
import { transportNames } from "../transports.ts";
import { JobId, RowId } from "./ids.ts";
import { JsonObject } from "./parse.ts";

const Ids = v.pipe(v.array(RowId), v.minLength(1), v.maxLength(1_000));
const Fingerprint = v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/, "must be 16 lower-case hex digits"));
const Name = v.pipe(v.string(), v.minLength(1), v.maxLength(200));

/** Every condition given must hold. Those that only a message can meet leave out rows that never had one. */
export const PoisonFilter = v.strictObject({
  job_id: v.optional(JobId),
  job_type: v.optional(Name),
  task_type: v.optional(Name),
  stage: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1))),
  /** Of the task's error. */
  code: v.optional(Name),
  /** Seen first, or failed, within so many hours. */
  hours: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(8_760))),
  verdict: v.optional(v.picklist(verdicts)),
  reason: v.optional(Name),
  transport: v.optional(v.picklist(transportNames)),
  queue: v.optional(Name),
});
export type PoisonFilter = v.InferOutput<typeof PoisonFilter>;

/** Which poison messages, in one of these ways. */
export const MessageSelection = v.union([
  v.strictObject({ messages: Ids }),
  v.strictObject({ group: Fingerprint }),
  v.strictObject({ filter: PoisonFilter }),
  v.strictObject({ all: v.literal(true) }),
], "must have exactly one of: messages, group, filter, all");
export type MessageSelection = v.InferOutput<typeof MessageSelection>;

/** The same for a redrive, which can name tasks too. `filter` and `all` take in failed tasks that never had a message. */
export const RedriveSelection = v.union([
  ...MessageSelection.options,
  v.strictObject({ tasks: Ids }),
], "must have exactly one of: messages, tasks, group, filter, all");
export type RedriveSelection = v.InferOutput<typeof RedriveSelection>;

/** What is changed in the parameters of every task: members taken out, then members put in. */
export const ParameterEdit = v.strictObject({
  remove: v.optional(v.pipe(v.array(Name), v.maxLength(100)), []),
  set: v.optional(JsonObject, {}),
});
export type ParameterEdit = v.InferOutput<typeof ParameterEdit>;

export const NewRedrive = v.strictObject({
  select: RedriveSelection,
  edit: v.optional(ParameterEdit),
  /** Default: as fast as it goes. */
  rate_per_second: v.optional(v.pipe(v.number(), v.minValue(0.01), v.maxValue(10_000))),
  /** So many first, and the rest when their outcome is known. Default: none. */
  canary: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(10_000)), 0),
  /** It stops by itself when a larger share of those that ended again has failed again. */
  max_failure_share: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 0.5),
  note: v.optional(v.pipe(v.string(), v.maxLength(1_000))),
});
export type NewRedrive = v.InferOutput<typeof NewRedrive>;
