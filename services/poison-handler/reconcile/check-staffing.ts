import { countRunners, listWaitingWork } from "../../../shared/store/damage/overview.ts";
import { queueName } from "../../../shared/transport/send-batches.ts";
import { type Check, found, twice } from "./check.ts";

/** A runner may take so long to start, where nothing runs as long as nothing waits. */
const waitingMs = 120_000;

/** Queues with open tasks that no live runner takes from; of the transports that this process serves. */
export const checkStaffing: Check = {
  name: "runners of queues",
  ...twice(async ({ sql, transports }) => {
    const runners = await countRunners(sql);
    const rows = (await listWaitingWork(sql, waitingMs)).flatMap((work) => {
      const open = transports.get(work.transport);
      if (!open) return [];
      const queue = queueName(open.queues, work.queue);
      const isServed = runners.some((runner) =>
        runner.live > 0 && runner.transport === work.transport && runner.queue.split(",").includes(queue)
      );
      return isServed ? [] : [{ ...work, queue }];
    });
    return found("no-live-runner", { rows, total: rows.length }, ({ transport, queue, stages, tasks }) => ({
      severity: "warning",
      subject_type: "queue",
      subject_id: `${transport}/${queue}`,
      transport,
      queue,
      message: `${tasks} tasks of ${stages} stages are open in queue ${queue} on ${transport}, and no live runner takes from it`,
      suggested_action: `start a task-runner for ${queue} on ${transport}`,
    }));
  }),
};
