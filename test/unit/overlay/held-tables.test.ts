import { runInNewContext } from 'node:vm'
import { setFlagsFromString } from 'node:v8'
import { expect, it } from 'vitest'
import { HeldTables } from '../../../src/overlay/held-tables.ts'
import { NameTable } from '../../../src/overlay/name-table.ts'

setFlagsFromString('--expose-gc')
const collect: () => void = runInNewContext('gc')

/** What lives in this process. */
function lives(): number {
  collect()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

function listed(names: number): NameTable {
  const table = new NameTable()
  for (let nth = 0; nth < names; nth += 1) table.add(Buffer.from(`name ${nth}`), BigInt(nth), 8)
  for (const _ of table.after(0));
  return table
}

it('P6: a directory that is held open takes as much memory as it has names, and about what its table says', () => {
  for (const [names, tables] of [
    [1, 1000],
    [100, 300],
    [5000, 40],
  ] as const) {
    const before = lives()
    const held = Array.from({ length: tables }, () => listed(names))
    const each = (lives() - before) / tables
    const said = held[0]?.size ?? 0
    expect(each, `${names} names`).toBeLessThan(8192 + names * 200)
    expect(each / said, `${names} names, said to take ${said}`).toBeLessThan(2)
  }
})

it('P6: of the tables of open directories those go that were used longest ago, and never the one in use', () => {
  const table = listed(10)
  const tables = new HeldTables(3 * table.size)
  const there = (): bigint[] => [1n, 2n, 3n, 4n, 5n].filter((handle) => tables.get(handle) !== undefined)
  tables.set(1n, table)
  tables.set(2n, listed(10))
  tables.set(3n, listed(10))
  tables.set(1n, table)
  expect(there()).toEqual([1n, 2n, 3n])
  tables.set(4n, listed(10))
  expect(there()).toEqual([1n, 3n, 4n])
  tables.delete(3n)
  tables.set(2n, listed(10))
  expect(there()).toEqual([1n, 2n, 4n])
  // One that is being made stays: somebody waits for it.
  tables.set(1n, Promise.resolve(table))
  tables.set(5n, listed(5000))
  expect(there()).toEqual([1n, 5n])
})
