import { findSchemaProblem } from "../../../shared/store/migrate.ts";
import { type Check, type Found, once, toFinding } from "./check.ts";

/** Whether the database has the schema that this process was written for: on another one, nothing else can be trusted. */
export const checkSchema: Check = {
  name: "schema",
  ...once(async ({ sql }): Promise<Found> => {
    const problem = await findSchemaProblem(sql);
    if (problem === null) return { findings: [], totals: new Map() };
    const finding = toFinding("schema-mismatch", {
      severity: "error",
      subject_type: "schema",
      subject_id: "schema_migrations",
      message: problem,
      suggested_action: "run the migrations of this version, then reconcile again: nothing else was checked",
    });
    return { findings: [finding], totals: new Map([["schema-mismatch", 1]]) };
  }),
};
