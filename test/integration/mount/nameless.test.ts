import { afterEach, beforeEach, expect, test } from 'vitest'
import { gateShare } from '../../support/gate-share.ts'
import { describeMounted, kernelIsAtLeast } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { O_EXCL, O_RDWR, O_TMPFILE } from '../../support/posix/constants.ts'

const MiB = 1 << 20
const ALL = ['observe', 'mirror', 'prefer-store', 'drain', 'store-only'] as const

describeMounted('files made without a name (O_TMPFILE)', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry()
  })

  afterEach(() => ferry.clear())

  const mount = async (mode: string): Promise<void> => {
    await ferry.mount('--mode', mode === 'store-only' ? 'drain' : mode)
    await ferry.call.mkdir(ferry.at('d'), 0o777)
    await ferry.call.chmod(ferry.at('d'), 0o777)
    if (mode === 'store-only') await ferry.done('mode', ferry.target, 'store-only', '--wait')
  }

  const make = (flags = 0): Promise<number> =>
    ferry.call.open(ferry.at('d'), O_TMPFILE | O_RDWR | flags, 0o640)

  test.skipIf(!kernelIsAtLeast(6, 1)).each(gateShare(ALL, 2, 1))(
    'P2, P7: in %s one that was linked and synced is there after a crash, one without a name is not',
    async (mode) => {
      await mount(mode)
      const [kept, lost] = [await make(), await make()]
      for (const fd of [kept, lost]) await ferry.call.write(fd, `of ${mode}`)
      if (kernelIsAtLeast(6, 9)) await ferry.killWorker()
      await ferry.call.linkFd(kept, ferry.at('d/kept'))
      await ferry.call.write(kept, ', written on')
      await ferry.call.fsync(kept)
      await expect(ferry.call.linkFd(await make(O_EXCL), ferry.at('d/excluded'))).rejects.toThrow('ENOENT')
      expect((await ferry.call.read(lost, 100, 0)).toString()).toBe(`of ${mode}`)
      await ferry.killBoth()
      await ferry.mount()
      expect(await ferry.call.names(ferry.at('d'))).toEqual(['kept'])
      expect((await ferry.call.readFile(ferry.at('d/kept'))).toString()).toBe(`of ${mode}, written on`)
      if (mode === 'observe') return
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.done('verify', ferry.target)
    },
  )

  test.skipIf(!kernelIsAtLeast(6, 1)).each(gateShare(ALL))(
    'P6: in %s the room of one goes back when it is closed, over a kill of the worker, too',
    async (mode) => {
      await mount(mode)
      const isOnVolume = mode !== 'drain' && mode !== 'store-only'
      const place = isOnVolume ? ferry.source : ferry.stateDir
      const free = async (): Promise<bigint> => {
        const { bfree, frsize } = await ferry.call.statvfs(place)
        return BigInt(bfree) * BigInt(frsize)
      }
      const fd = await make()
      for (let at = 0; at < 64; at += 8) await ferry.call.write(fd, Buffer.alloc(8 * MiB, 1), at * MiB)
      await ferry.call.fsync(fd)
      if (kernelIsAtLeast(6, 9)) await ferry.killWorker()
      const before = await free()
      await ferry.call.close(fd)
      await ferry.eventually('room', async () => (await free()) > before + BigInt(32 * MiB))
    },
  )

  test.skipIf(!kernelIsAtLeast(6, 1)).each(['mirror', 'drain'])(
    'P1: in %s it belongs to who made it, with his umask',
    async (mode) => {
      await mount(mode)
      const user = ferry.as({ uid: 1234, gid: 2345, groups: [] })
      await user.call.umask(0o027)
      const fd = await user.call.open(ferry.at('d'), O_TMPFILE | O_RDWR, 0o666)
      expect(await user.call.fstat(fd)).toMatchObject({ uid: 1234, gid: 2345, mode: 0o100640, nlink: 0 })
      await user.call.linkFd(fd, ferry.at('d/own'))
      expect(await ferry.call.stat(ferry.at('d/own'))).toMatchObject({ uid: 1234, gid: 2345, nlink: 1 })
    },
  )

  test.skipIf(!kernelIsAtLeast(6, 1)).each(['drain', 'store-only'])(
    'P2: one that was made in mirror gets its name in %s, and is there after a crash',
    async (mode) => {
      await mount('mirror')
      const fd = await make()
      const body = Buffer.alloc(3 * MiB, 'made in mirror ')
      await ferry.call.write(fd, body)
      await ferry.done('mode', ferry.target, mode, '--wait')
      await ferry.call.write(fd, 'in another mode', 10)
      await ferry.call.linkFd(fd, ferry.at('d/named'))
      body.write('in another mode', 10)
      await ferry.call.fsync(fd)
      await ferry.killBoth()
      await ferry.mount()
      expect((await ferry.call.readFile(ferry.at('d/named'))).equals(body)).toBe(true)
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.done('verify', ferry.target)
    },
  )
})
