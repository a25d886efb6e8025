import fc from 'fast-check'
import type { Entry } from '../../src/content/list.ts'

const bytes = (length: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((array) => Buffer.from(array))

/** Entries of a list with so many slots. */
export function entriesOf(slots: number): fc.Arbitrary<Entry[]> {
  const entry = fc.record({
    slot: fc.nat({ max: slots - 1 }),
    hash: bytes(32).filter((hash) => hash.some((byte) => byte !== 0)),
    zeros: fc.option(
      bytes(32).filter((bits) => bits.some((byte) => byte !== 0xff)),
      { nil: undefined },
    ),
  })
  return fc
    .uniqueArray(entry, { selector: ({ slot }) => slot, maxLength: 40 })
    .map((entries) => entries.sort((a, b) => a.slot - b.slot))
}
