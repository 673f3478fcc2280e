import * as v from "valibot";
import { CommonEnvironment, Flag, Integer, loadEnvironment } from "../../shared/environment.ts";
import { transportNames } from "../../shared/transports.ts";

const ApiEnvironment = v.pipe(
  v.object({
    ...CommonEnvironment.entries,
    PORT: Integer(0, 65_535, 8080),
    /** Where jobs go whose client doesn't say. Default: the first of `TRANSPORTS`. */
    DEFAULT_TRANSPORT: v.optional(v.picklist(transportNames)),
    /** Lets `POST /api/db/schema/redeploy` delete everything. */
    ALLOW_SCHEMA_REDEPLOY: Flag(false),
    /** Answers admin routes to anybody who can reach this process, not only on its own machine. */
    ALLOW_ADMIN_ROUTES: Flag(false),
  }),
  v.forward(
    v.partialCheck(
      [["TRANSPORTS"], ["DEFAULT_TRANSPORT"]],
      ({ TRANSPORTS, DEFAULT_TRANSPORT }) => DEFAULT_TRANSPORT === undefined || TRANSPORTS.includes(DEFAULT_TRANSPORT),
      "must be one of TRANSPORTS",
    ),
    ["DEFAULT_TRANSPORT"],
  ),
);
export type Config = v.InferOutput<typeof ApiEnvironment>;

export function loadConfig(environment: Record<string, string | undefined>): Config {
  return loadEnvironment(ApiEnvironment, environment);
}
