/** Rows under their headings; numbers are aligned at the right. */
export function formatTable(headings: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const all = [headings, ...rows.map((row) => row.map(String))];
  const widths = headings.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  const isNumber = (column: number) => rows.every((row) => /^[\d.,]+$/.test(String(row[column])));
  const format = (row: readonly string[]) =>
    row.map((text, column) => isNumber(column) ? text.padStart(widths[column] ?? 0) : text.padEnd(widths[column] ?? 0)).join(
      "  ",
    );
  const [first = "", ...others] = all.map(format);
  return [first, widths.map((width) => "─".repeat(width)).join("  "), ...others].join("\n");
}
