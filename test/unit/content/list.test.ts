import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  decodeList,
  encodeList,
  LIST_ENTRIES,
  ListDamaged,
  levelsFor,
  slotsOf,
} from '../../../src/content/list.ts'
import { entriesOf } from '../../support/lists.ts'

test('a list comes back as it was', () => {
  fc.assert(
    fc.property(entriesOf(LIST_ENTRIES), (entries) => {
      expect(decodeList(encodeList(entries), LIST_ENTRIES)).toEqual(entries)
    }),
  )
})

test('P6: a list of holes takes no room, a list that is full a bounded one', () => {
  expect(encodeList([]).length).toBeLessThan(8)
  const one = { slot: LIST_ENTRIES - 1, hash: Buffer.alloc(32, 1), zeros: undefined }
  expect(encodeList([one]).length).toBeLessThan(64)
  const zeros = Buffer.alloc(32, 0x55)
  const full = Array.from({ length: LIST_ENTRIES }, (_, slot) => ({ slot, hash: Buffer.alloc(32, 1), zeros }))
  expect(encodeList(full).length).toBeLessThan(72 * 1024)
})

test('P6: bytes that are no list are refused, and cost no more than they are long', () => {
  const damaged = fc.oneof(
    fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array)),
    fc.tuple(entriesOf(LIST_ENTRIES), fc.nat(), fc.nat(255)).map(([entries, at, byte]) => {
      const list = encodeList(entries)
      list[at % list.length] = byte
      return list
    }),
  )
  fc.assert(
    fc.property(damaged, fc.integer({ min: 0, max: LIST_ENTRIES }), (bytes, slots) => {
      try {
        for (const { slot } of decodeList(bytes, slots)) expect(slot).toBeLessThan(slots)
      } catch (error) {
        expect(error).toBeInstanceOf(ListDamaged)
      }
    }),
  )
})

test('there are as few levels of pages as let a list name all', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 33 }), (chunks) => {
      const levels = levelsFor(chunks)
      expect(slotsOf(chunks, levels)).toBeLessThanOrEqual(LIST_ENTRIES)
      if (levels > 0) expect(slotsOf(chunks, levels - 1)).toBeGreaterThan(LIST_ENTRIES)
    }),
  )
  expect(levelsFor(2 ** 33)).toBe(3)
})
