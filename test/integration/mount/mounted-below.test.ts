import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { KINDS, OtherDisk } from '../../support/mount/other-disk.ts'

describe.each(KINDS)('%s', (kind) => {
  describeMounted('a directory of it that is mounted below SOURCE, and missing at the next mount', () => {
    let ferry: Ferry
    let disk: OtherDisk
    let below: string

    beforeEach(() => {
      ferry = new Ferry()
      below = ferry.under('below')
      mkdirSync(below)
      disk = new OtherDisk(ferry, '.', below, kind)
      mkdirSync(join(disk.path, 'deep'))
      writeFileSync(join(disk.path, 'file'), 'on the other disk')
      writeFileSync(join(disk.path, 'deep/file'), 'deep on the other disk')
      writeFileSync(ferry.under('beside'), 'on SOURCE')
      disk.attach()
    })

    afterEach(() => disk.clear())

    test.each(['mirror', 'prefer-store', 'drain'])(
      'P1, P2, P3: in %s it is no empty directory, is listed, and is as it was once it is back',
      async (mode) => {
        await disk.missingIn(mode)
        const served = mode !== 'mirror'
        const read = (name: string) => ferry.call.readFile(ferry.at(name)).then(String)
        if (served) expect(await read('below/file')).toBe('on the other disk')
        else {
          await expect(read('below/file')).rejects.toThrow(/EIO/)
          await expect(ferry.call.names(ferry.at('below'))).rejects.toThrow(/EIO/)
        }
        expect(await read('beside')).toBe('on SOURCE')
        await ferry.ferryfs('migrate', ferry.target, '--wait')
        const reason = expect.stringMatching(/a file system that was mounted there is missing/)
        expect((await ferry.status()).failures).toContainEqual({ path: 'below', reason })
        const verified = await ferry.ferryfs('verify', ferry.target)
        expect(verified.status, verified.stdout).toBe(3)

        disk.attach()
        await ferry.eventually('it to be back', () =>
          read('below/deep/file').then(
            () => true,
            () => false,
          ),
        )
        expect(await read('below/file')).toBe('on the other disk')
        await ferry.done('migrate', ferry.target, '--wait')
        await ferry.settled()
        await ferry.done('verify', ferry.target)
        expect((await ferry.status()).failures).toEqual([])
      },
    )

    test('P2, P3: in drain it is not taken over as an empty one, whatever is made in it', async () => {
      await ferry.mount('--mode', 'observe')
      expect((await ferry.call.names(ferry.at('below'))).sort()).toEqual(['deep', 'file'])
      await ferry.unmount()
      disk.detach()
      await ferry.mount('--mode', 'drain')
      await expect(ferry.call.names(ferry.at('below'))).rejects.toThrow(/EIO/)
      await expect(ferry.call.readFile(ferry.at('below/file'))).rejects.toThrow(/EIO/)
      await expect(ferry.call.lstat(ferry.at('below/none'))).rejects.toThrow(/EIO/)
      await expect(ferry.call.writeFile(ferry.at('below/new'), 'new')).rejects.toThrow(/EIO/)
      await expect(ferry.call.rmdir(ferry.at('below'))).rejects.toThrow(/EIO|ENOTEMPTY/)
      const { status, stdout, stderr } = await ferry.ferryfs('migrate', ferry.target, '--wait')
      expect(status, stdout + stderr).toBe(3)
      expect((await ferry.ferryfs('verify', ferry.target)).status).toBe(3)
      const restored = await ferry.ferryfs('restore', ferry.target, join(ferry.root, 'back'))
      expect([restored.status, restored.stdout]).toEqual([
        3,
        expect.stringMatching(/^missing {2}below: what is in it cannot be listed: /m),
      ])
      disk.attach()
      await ferry.eventually('it to be back', () =>
        ferry.call.readFile(ferry.at('below/deep/file')).then(
          () => true,
          () => false,
        ),
      )
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.settled()
      await ferry.done('verify', ferry.target)
      expect((await ferry.call.readFile(ferry.at('below/file'))).toString()).toBe('on the other disk')
    })

    test('P5: one that is gone for good is accepted as the message says', async () => {
      await ferry.mount('--mode', 'mirror')
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.unmount()
      disk.detach()
      await ferry.mount()
      await expect(ferry.call.names(ferry.at('below'))).rejects.toThrow(/EIO/)
      renameSync(below, `${below}.now`)
      await ferry.eventually(
        'its name to be gone',
        async () => !(await ferry.call.names(ferry.target)).includes('below'),
      )
      await expect(ferry.call.lstat(ferry.at('below'))).rejects.toThrow(/ENOENT/)
      renameSync(`${below}.now`, below)
      await ferry.eventually('the directory', () =>
        ferry.call.names(ferry.at('below')).then(
          () => true,
          () => false,
        ),
      )
      expect(await ferry.call.names(ferry.at('below'))).toEqual([])
    })
  })
})
