// Run by reconcile.long.test.ts in a process of its own: its memory is what is measured.
import { openDatabase } from "../../shared/store/database.ts";
import { openDamagedSystem, reconcile } from "./reconcile-once.ts";

const sql = openDatabase(process.argv[2] ?? "", { applicationName: "tests", max: 8 });
// What the rows say is in the queue, without a million messages in the memory that is measured.
const { close, ...system } = openDamagedSystem(sql);
const { counts } = system.broker;
system.broker.counts = async (queue) => queue === "tasks" ? { active: 500_000, deadLettered: 0 } : await counts(queue);
const begunAt = performance.now();
const { found, summary } = await reconcile(system, "dry-run");
const seconds = Math.round((performance.now() - begunAt) / 100) / 10;
const maxRssMb = Math.round(process.resourceUsage().maxRSS / 1024);
await close();
await sql.end();
process.send?.({ findings: found, tasks: summary.rows.tasks, seconds, maxRssMb, checks: summary.checks });
process.disconnect?.();
