import { expect, test } from "vitest";
import { salvageIds } from "./salvage.ts";

const jobId = "0a".repeat(32);

test.each([
  [`{"jobId":"${jobId}","stageId":3,"taskIds":[1,2]}`, { jobId, stageId: 3, taskIds: [1, 2] }],
  [`{"job_id":"${jobId}","stage_id":3,"task_ids":[4],"version":"x"}`, { jobId, stageId: 3, taskIds: [4] }],
  [`{"jobId":"${jobId}","stageId":3,"taskIds":[1, 2,`, { jobId, stageId: 3, taskIds: [1, 2] }],
  [`garbage "job_id" : "${jobId}" more`, { jobId }],
  [`{"jobId":"XYZ","stageId":-1,"taskIds":["a",2.5,7]}`, { taskIds: [7] }],
  [`{"jobId":7}`, {}],
  ["[]", {}],
  ["null", {}],
  ["", {}],
  ["no ids at all", {}],
])("of %s", (body, ids) => {
  expect(salvageIds(body)).toEqual(ids);
});

test("a body of a megabyte costs no more than its beginning", () => {
  expect(salvageIds(`${" ".repeat(70_000)}"jobId":"${jobId}"`)).toEqual({});
});
