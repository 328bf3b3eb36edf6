// Which cells of a heat map are selected: all of a range of time, or a rectangle of time and size.

export interface Cells {
  /** First and last cell, both included; of a rectangle the corners where both are smallest and largest. */
  first: number;
  last: number;
  /** Of a rectangle: the cells of a column; 0 where all cells between are meant. */
  rows: number;
}

export function covers({ first, last, rows }: Cells, cell: number): boolean {
  if (cell < first || cell > last) return false;
  return !rows || (cell % rows >= first % rows && cell % rows <= last % rows);
}

/** The cells between two, in either order. With `rows` the rectangle that they span. */
export function between(a: number, b: number, rows: number): Cells {
  if (!rows) return { first: Math.min(a, b), last: Math.max(a, b), rows };
  const [rowA, rowB] = [a % rows, b % rows];
  const [columnA, columnB] = [Math.floor(a / rows), Math.floor(b / rows)];
  return {
    first: Math.min(columnA, columnB) * rows + Math.min(rowA, rowB),
    last: Math.max(columnA, columnB) * rows + Math.max(rowA, rowB),
    rows,
  };
}
