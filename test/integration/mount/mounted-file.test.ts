import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { gateShare } from '../../support/gate-share.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { KINDS, OtherDisk } from '../../support/mount/other-disk.ts'

const MISSING = expect.stringMatching(/a file system that was mounted there is missing/)

describe.each(KINDS)('%s', (kind) => {
  describeMounted('a file of it that is mounted on a file of SOURCE, and missing at the next mount', () => {
    let ferry: Ferry
    let disk: OtherDisk
    let place: string

    const read = (name: string) => ferry.call.readFile(ferry.at(name)).then(String)
    const isBack = () =>
      ferry.eventually('it to be back', () =>
        read('c/file').then(
          (text) => text === 'on the other disk',
          () => false,
        ),
      )

    async function expectListed(): Promise<void> {
      expect((await ferry.status()).failures).toContainEqual({ path: 'c/file', reason: MISSING })
      const verified = await ferry.ferryfs('verify', ferry.target)
      expect(verified.status, verified.stdout).toBe(3)
      expect(statSync(place).size).toBe(0)
    }

    beforeEach(() => {
      ferry = new Ferry()
      mkdirSync(ferry.under('c'))
      place = ferry.under('c/file')
      writeFileSync(place, '')
      disk = new OtherDisk(ferry, 'file', place, kind)
      writeFileSync(join(disk.path, 'file'), 'on the other disk')
      writeFileSync(ferry.under('c/beside'), 'on SOURCE')
      disk.attach()
    })

    afterEach(() => disk.clear())

    test.each(gateShare(['mirror', 'drain', 'prefer-store'], 2, KINDS.indexOf(kind)))(
      'P1, P2, P3: in %s the empty file below it is not taken for it, and it is as it was once it is back',
      async (mode) => {
        await disk.missingIn(mode)
        const served = mode !== 'mirror'
        if (served) expect(await read('c/file')).toBe('on the other disk')
        else await expect(read('c/file')).rejects.toThrow(/EIO/)
        expect(await read('c/beside')).toBe('on SOURCE')
        await ferry.ferryfs('migrate', ferry.target, '--wait')
        await expectListed()
        const back = join(ferry.root, 'back')
        const restored = await ferry.ferryfs('restore', ferry.target, back)
        // In mirror the store is not read: what it has is for 'restore --store'.
        if (served) expect(readFileSync(join(back, 'c/file'), 'utf8')).toBe('on the other disk')
        else expect(restored.stdout).toMatch(/^missing {2}c\/file: a file system that was mounted there/m)
        expect(restored.status).toBe(served ? 0 : 3)
        if (served) expect(await read('c/file')).toBe('on the other disk')

        disk.attach()
        await isBack()
        await ferry.ferryfs('migrate', ferry.target, '--wait')
        await ferry.done('verify', ferry.target)
        if (mode !== 'drain') expect((await ferry.status()).failures).toEqual([])
      },
    )

    test('P2, P3: one that was never copied is EIO, is listed, and is neither copied nor written to', async () => {
      await ferry.mount('--mode', 'observe')
      expect(await read('c/file')).toBe('on the other disk')
      await ferry.unmount()
      disk.detach()
      await ferry.mount('--mode', 'drain')
      await expect(read('c/file')).rejects.toThrow(/EIO/)
      await expect(ferry.call.writeFile(ferry.at('c/file'), 'new')).rejects.toThrow(/EIO/)
      expect((await ferry.ferryfs('migrate', ferry.target, '--wait')).status).toBe(3)
      await expectListed()
      disk.attach()
      await isBack()
    })

    test('P2: one that goes while it is served is not taken for empty', async () => {
      await ferry.mount('--mode', 'mirror')
      await ferry.done('migrate', ferry.target, '--wait')
      execFileSync('umount', ['-l', place])
      await ferry.eventually('it to be missed', () =>
        read('c/file').then(
          (text) => {
            expect(text).toBe('on the other disk')
            return false
          },
          () => true,
        ),
      )
      await ferry.ferryfs('migrate', ferry.target, '--wait')
      await expectListed()
      disk.attach()
      await isBack()
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.done('verify', ferry.target)
    })

    test('P5: one that is gone for good is accepted as the message says', async () => {
      await ferry.mount('--mode', 'mirror')
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.unmount()
      disk.detach()
      writeFileSync(place, 'instead')
      await ferry.mount()
      await expect(read('c/file')).rejects.toThrow(/EIO/)
      renameSync(place, `${place}.now`)
      await ferry.eventually('its name to be gone', async () => {
        const names = await ferry.call.names(ferry.at('c'))
        return !names.includes('file')
      })
      await expect(ferry.call.lstat(ferry.at('c/file'))).rejects.toThrow(/ENOENT/)
      renameSync(`${place}.now`, place)
      await ferry.eventually('the file', () =>
        read('c/file').then(
          (text) => text === 'instead',
          () => false,
        ),
      )
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.done('verify', ferry.target)
      expect((await ferry.status()).failures).toEqual([])
    })
  })
})
