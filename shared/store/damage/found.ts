/** Rows that are not as they should be: the first of them, and how many there are. */
export interface FoundRows<Row> {
  readonly rows: readonly Row[];
  readonly total: number;
}

/** Of rows that carry their number in `total`, as `count(*) over ()` gives it. */
export function foundRows<Row extends { readonly total: number }>(rows: readonly Row[]): FoundRows<Row> {
  return { rows, total: rows[0]?.total ?? 0 };
}

/** Where a row belongs. */
export interface Place {
  readonly jobId: string;
  readonly stageId: number;
}
