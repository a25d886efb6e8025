import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { MOST_ID } from '../../../src/base/attribute-ranges.ts'
import { whyNoMount } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

const reason = whyNoMount()
const FILES = ['small', 'large'] as const
/** Milliseconds where seconds belong: the year 55,840. */
const SLIP_NS = 1_700_000_000_000n * 1_000_000_000n
const EARLY_NS = -5_000_000_000n * 1_000_000_000n + 1n
const XATTR = 'trusted.any'
const VALUE = Buffer.alloc(65536, 0xfe)

describe.skipIf(reason !== undefined)('attributes that ext4 does not have', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry()
  })

  afterEach(() => ferry.clear())

  async function expectAll(): Promise<void> {
    for (const name of FILES) {
      const { uid, gid, atimeNs, mtimeNs } = await ferry.call.stat(ferry.at(name))
      expect({ uid, gid, atimeNs, mtimeNs }, name).toEqual({
        uid: MOST_ID,
        gid: MOST_ID,
        atimeNs: EARLY_NS,
        mtimeNs: SLIP_NS,
      })
      expect((await ferry.call.getxattr(ferry.at(name), XATTR)).equals(VALUE)).toBe(true)
      await ferry.readAnew(name)
    }
  }

  test('P1 P5: are kept by a drain as they were set, for every command, and listed where DEST has not room for them', async () => {
    await ferry.mount('--mode', 'drain')
    for (const name of FILES) {
      await ferry.call.writeFile(ferry.at(name), Buffer.alloc(name === 'small' ? 10 : 3_000_000, 'x'))
      await ferry.call.chown(ferry.at(name), MOST_ID, MOST_ID)
      await ferry.call.setxattr(ferry.at(name), XATTR, VALUE)
      await ferry.call.utimens(ferry.at(name), EARLY_NS, SLIP_NS)
    }
    await expectAll()
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
    await ferry.unmount()
    await ferry.mount()
    await expectAll()
    await ferry.done('verify', ferry.target)
    const restored = await ferry.ferryfs('restore', ferry.target, join(ferry.root, 'back'))
    expect(restored.status, restored.stderr).toBe(3)
    for (const name of FILES)
      expect(restored.stdout + restored.stderr).toMatch(
        new RegExp(`${name}.*DEST keeps @.* instead of @1700000000000\\.0`),
      )
    await ferry.unmount()
  })
})
