import * as v from "valibot";

/** For job types that let a submission choose; left out, it stays out of the parameters, and so of the job's id. */
export const TasksPerMessage = v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(100)));
