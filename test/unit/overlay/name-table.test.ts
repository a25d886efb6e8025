import fc from 'fast-check'
import { expect, it } from 'vitest'
import { NameTable } from '../../../src/overlay/name-table.ts'

it('P1 every name is listed once, in an order that does not hang on how the names came', () => {
  const names = fc.array(fc.uint8Array({ minLength: 1, maxLength: 255 }), { maxLength: 300 })
  fc.assert(
    fc.property(names, fc.nat(), (given, at) => {
      const [table, other] = [new NameTable(), new NameTable()]
      for (const [nth, name] of given.entries()) table.add(Buffer.from(name), BigInt(nth), 8)
      for (const name of given.toReversed()) other.add(Buffer.from(name), 1n, 4)
      const listed = [...table.after(0)]
      const text = listed.map(({ name }) => name.toString('hex'))
      expect([...text].sort()).toEqual(
        [...new Set(given.map((name) => Buffer.from(name).toString('hex')))].sort(),
      )
      expect([...other.after(0)].map(({ name }) => name.toString('hex'))).toEqual(text)
      const cookies = listed.map(({ cookie }) => cookie)
      expect(cookies.every((cookie, nth) => cookie > (cookies[nth - 1] ?? 15))).toBe(true)
      const from = listed[at % Math.max(1, listed.length)]
      if (from) expect([...table.after(from.cookie)]).toEqual(listed.slice((at % listed.length) + 1))
      expect(given.every((name) => table.seen()(Buffer.from(name)))).toBe(true)
    }),
  )
})
