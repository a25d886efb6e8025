import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { whyNoMount } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { whyNoImage } from '../../support/volume/image-volume.ts'

const MKFS = ['mkfs.ext4', '-q', '-F'] as const
const reason = whyNoMount() ?? whyNoImage(MKFS)
if (reason !== undefined) console.log(`no disk of SOURCE is replaced here: ${reason}`)

// The root of each ext4 has inode number 2: a new, empty disk passed for SOURCE whose files somebody had removed, and so the store lost
// them, too.
describe.skipIf(reason !== undefined)("another disk of the same kind in the place of SOURCE's", () => {
  let ferry: Ferry

  const attach = (image: string): void => {
    execFileSync('mount', ['-o', 'loop', join(ferry.root, image), ferry.source])
  }
  const detach = (): void => {
    execFileSync('umount', [ferry.source])
  }

  beforeEach(() => {
    ferry = new Ferry()
    for (const image of ['first', 'second']) {
      writeFileSync(join(ferry.root, image), '')
      truncateSync(join(ferry.root, image), 16 << 20)
      execFileSync('mkfs.ext4', ['-q', '-F', join(ferry.root, image)])
    }
    attach('first')
    mkdirSync(ferry.under('d'))
    writeFileSync(ferry.under('d/file'), 'content')
  })

  afterEach(async () => {
    await ferry.unmount().catch(() => undefined)
    spawnSync('umount', ['-q', '-l', ferry.source])
    await ferry.clear()
  })

  test.each(['mirror', 'prefer-store', 'drain'])(
    'P2, P3: in %s the mount is refused, and the right disk goes on',
    async (mode) => {
      await ferry.mount('--mode', mode)
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.settled()
      await ferry.unmount()
      detach()
      attach('second')
      const { status, stderr } = await ferry.tryMount()
      expect(status, stderr).toBe(2)
      expect(stderr).toMatch(
        /^ferryfs: [^\n]*is not the directory this state directory was made for[^\n]*\n$/,
      )
      detach()
      attach('first')
      await ferry.mount()
      expect(String(await ferry.call.readFile(ferry.at('d/file')))).toBe('content')
      await ferry.done('verify', ferry.target)
    },
  )

  test('P5: with --take-over it is taken for SOURCE, and that is told as a loss', async () => {
    await ferry.mount('--mode', 'mirror')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
    await ferry.unmount()
    detach()
    attach('second')
    await ferry.mount('--take-over')
    expect(await ferry.call.names(ferry.target)).toEqual(readdirSync(ferry.source))
    const verified = await ferry.ferryfs('verify', ferry.target)
    expect(verified.status, verified.stdout).toBe(3)
  })
})
