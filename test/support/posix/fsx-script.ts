import fc from 'fast-check'

const KINDS = [
  ...Array<'write'>(5).fill('write'),
  ...Array<'read'>(3).fill('read'),
  ...Array<'truncate'>(3).fill('truncate'),
  ...Array<'mapWrite'>(3).fill('mapWrite'),
  ...Array<'punch'>(2).fill('punch'),
  ...Array<'append'>(2).fill('append'),
  ...Array<'copy'>(2).fill('copy'),
  ...Array<'reopen'>(2).fill('reopen'),
  ...Array<'rename'>(2).fill('rename'),
  'mapRead',
  'zero',
  'allocate',
  'link',
  'unlink',
  'replace',
  'fsync',
  'drop',
] as const

/** One step: numbers that are brought into range when it runs, so that every shrunk script still means something. */
export interface FsxOperation {
  readonly kind: (typeof KINDS)[number]
  readonly file: number
  readonly offset: number
  readonly length: number
  /** The offset is rounded down to a multiple of this: mistakes live at edges. */
  readonly align: number
  /** Varies the data, the flags and which descriptor is used. */
  readonly variant: number
}

const RANGE = 1 << 24
export const PAGE = 4096

/** Operations of every kind but those that the file system does not offer. */
export function operationArbitrary(without: readonly string[]): fc.Arbitrary<FsxOperation> {
  return fc.record({
    kind: fc.constantFrom(...KINDS.filter((kind) => !without.includes(kind))),
    file: fc.nat(7),
    offset: fc.nat(RANGE),
    length: fc.nat(RANGE),
    align: fc.constantFrom(1, 1, 512, PAGE, PAGE, 65_536),
    variant: fc.nat(RANGE),
  })
}

/** `length` bytes that are the same for the same seed. */
export function data(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length)
  let state = (seed + 1) >>> 0
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    bytes[at] = state >>> 24
  }
  return bytes
}
