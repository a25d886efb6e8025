import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { whyNoMount } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { whyNoImage } from '../../support/volume/image-volume.ts'

const MKFS = ['mkfs.ext4', '-q', '-F'] as const
const reason = whyNoMount() ?? whyNoImage(MKFS)
if (reason !== undefined) console.log(`no disk gets another number here: ${reason}`)

describe.skipIf(reason !== undefined)(
  'a disk below SOURCE that comes back under another device number, as after a boot',
  () => {
    let ferry: Ferry
    const loops: string[] = []
    let below: string

    const losetup = (...args: string[]): string => execFileSync('losetup', args, { encoding: 'utf8' }).trim()
    const attach = (image: string): string => {
      const loop = losetup('-f', '--show', join(ferry.root, image))
      loops.push(loop)
      return loop
    }
    const release = (): void => {
      spawnSync('umount', ['-q', '-l', below])
      for (const loop of loops.splice(0)) losetup('-d', loop)
    }

    beforeEach(() => {
      ferry = new Ferry()
      below = ferry.under('below')
      mkdirSync(below)
      for (const image of ['image', 'beside']) {
        writeFileSync(join(ferry.root, image), '')
        truncateSync(join(ferry.root, image), 16 << 20)
      }
      execFileSync('mkfs.ext4', ['-q', '-F', join(ferry.root, 'image')])
      execFileSync('mount', [attach('image'), below])
      mkdirSync(join(below, 'deep'))
      writeFileSync(join(below, 'deep/file'), 'on the other disk')
    })

    afterEach(async () => {
      await ferry.unmount().catch(() => undefined)
      release()
      await ferry.clear()
    })

    test('P1, P4: its files are the same files, and are not copied again', async () => {
      await ferry.mount('--mode', 'prefer-store')
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.settled()
      const look = () =>
        Promise.all(['below', 'below/deep/file'].map((name) => ferry.call.lstat(ferry.at(name))))
      const device = statSync(below).dev
      const before = await look()
      await ferry.unmount()
      release()
      attach('beside')
      execFileSync('mount', [attach('image'), below])
      expect(statSync(below).dev).not.toBe(device)
      await ferry.mount()
      const after = await look()
      expect(after.map(({ ino }) => ino)).toEqual(before.map(({ ino }) => ino))
      expect((await ferry.status()).files).toMatchObject({ total: 1, stored: 1, pending: 0 })
      expect((await ferry.call.readFile(ferry.at('below/deep/file'))).toString()).toBe('on the other disk')
      await ferry.done('verify', ferry.target)
    })
  },
)
