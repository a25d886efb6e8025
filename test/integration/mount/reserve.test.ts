import { chmodSync, mkdirSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { whyNoMount } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { onImage, whyNoImage } from '../../support/volume/image-volume.ts'

/** A fifth of it is for root. */
const MKFS = ['mkfs.ext4', '-q', '-F', '-m', '20'] as const
const USER = ['setpriv', '--reuid=2000', '--regid=2000', '--clear-groups'] as const

const reason = whyNoMount() ?? whyNoImage(MKFS)

describe.skipIf(reason !== undefined)('a volume with blocks kept for root', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry({ surroundings: onImage(MKFS) })
    mkdirSync(ferry.under('open'))
    chmodSync(ferry.under('open'), 0o1777)
    chmodSync(ferry.source, 0o755)
  })

  afterEach(() => ferry.clear())

  const as = (identity: readonly string[], line: string): Promise<string> =>
    ferry.run(identity[0] ?? 'env', ...identity.slice(1), 'sh', '-c', `cd ${ferry.at('open')} && ${line}`)

  const free = (): { all: number; users: number } => {
    const { bfree, bavail, bsize } = statfsSync(ferry.source)
    return { all: bfree * bsize, users: bavail * bsize }
  }

  const fill = 'dd if=/dev/zero of=fill bs=64k conv=fsync 2>&1'

  test.each(['mirror', 'prefer-store'])(
    'in %s the blocks kept for root are root’s: for content, directories, links and attributes',
    async (mode) => {
      await ferry.mount('--mode', mode, '--store', `embedded:${join(ferry.root, 'store')}`)
      await expect(as(USER, fill)).rejects.toThrow('ended with 1')
      expect(free().users).toBeLessThan(256 * 1024)
      expect(free().all).toBeGreaterThan(8 << 20)
      await as(USER, 'rm -f small; dd if=/dev/zero of=small bs=1k conv=fsync 2>&1').catch(() => undefined)
      expect(free().users).toBe(0)
      const long = 'x'.repeat(900)
      for (const line of [
        'mkdir d',
        `ln -s ${long} l`,
        'dd if=/dev/zero of=more bs=1k count=1 conv=fsync',
        'fallocate -l 1M allocated',
        `setfattr -n user.a -v ${long} small`,
      ]) {
        await expect(as(USER, line), line.slice(0, 12)).rejects.toThrow('No space left on device')
      }
      await as([], 'mkdir of-root && dd if=/dev/zero of=of-root/f bs=1M count=2 conv=fsync 2>&1')
      expect(free().all).toBeGreaterThan(4 << 20)
    },
  )
})
