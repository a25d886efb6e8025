import { expect, test } from 'vitest'
import { isSameSource, sourceIdentity } from '../../../src/legacy/source-identity.ts'

const EXT4 = 0xef53n
const XFS = 0x58465342n
const identity = (type: bigint, btimeNs: bigint, id: bigint): string =>
  sourceIdentity({ ino: 2n, btimeNs }, type, () => id)

test('P3: another disk of the same type is another SOURCE, though its root has the same number', () => {
  const known = identity(EXT4, 1000n, 7n)
  expect(isSameSource(known, identity(EXT4, 1000n, 7n))).toBe(true)
  expect(isSameSource(known, identity(EXT4, 1001n, 7n))).toBe(false)
  // Made in the same second.
  expect(isSameSource(known, identity(EXT4, 1000n, 8n))).toBe(false)
  expect(isSameSource(known, identity(XFS, 1000n, 7n))).toBe(false)
})

test('P3: without times of birth ext3 tells by its id; the id of others is not asked for', () => {
  expect(isSameSource(identity(EXT4, 0n, 7n), identity(EXT4, 0n, 8n))).toBe(false)
  expect(isSameSource(identity(XFS, 5n, 7n), identity(XFS, 5n, 8n))).toBe(true)
})

test('P5: what an older ferryfs noted, or a kernel that tells less, is the same directory', () => {
  expect(isSameSource('2:61267', identity(EXT4, 1000n, 7n))).toBe(true)
  expect(isSameSource('2:61267', identity(XFS, 1000n, 7n))).toBe(false)
  expect(isSameSource(identity(XFS, 1000n, 7n), identity(XFS, 0n, 7n))).toBe(true)
})
