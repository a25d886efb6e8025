/** How often a cut fell behind which step, by mode. */
export class Coverage {
  readonly #counts = new Map<string, Map<string, number>>()

  add(what: string, column: string, count = 1): void {
    const row = this.#counts.get(what) ?? new Map<string, number>()
    row.set(column, (row.get(column) ?? 0) + count)
    this.#counts.set(what, row)
  }

  addAll(other: Record<string, Record<string, number>>): void {
    for (const [what, row] of Object.entries(other)) {
      for (const [column, count] of Object.entries(row)) this.add(what, column, count)
    }
  }

  get total(): number {
    return [...this.#counts.values()]
      .flatMap((row) => [...row.values()])
      .reduce((sum, count) => sum + count, 0)
  }

  toJSON(): Record<string, Record<string, number>> {
    return Object.fromEntries([...this.#counts].map(([what, row]) => [what, Object.fromEntries(row)]))
  }

  table(columns: readonly string[]): string {
    const width = Math.max(0, ...[...this.#counts.keys()].map(({ length }) => length))
    const line = (first: string, cells: readonly string[]): string =>
      `  ${first.padEnd(width)} ${cells.map((cell) => cell.padStart(12)).join('')}`
    const rows = [...this.#counts]
      .sort(([one], [other]) => one.localeCompare(other))
      .map(([what, row]) =>
        line(
          what,
          columns.map((column) => String(row.get(column) ?? 0)),
        ),
      )
    return [line('', columns), ...rows].join('\n')
  }
}
