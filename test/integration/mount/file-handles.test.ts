import { mkdirSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { O_DIRECTORY, O_RDONLY, O_RDWR } from '../../support/posix/constants.ts'

// What the kernel has of files that nobody uses goes: a handle then leads to a look-up by number.
const evict = (): void => writeFileSync('/proc/sys/vm/drop_caches', '2')

// As an NFS server opens what its clients have.
describeMounted('file handles of name_to_handle_at(2)', () => {
  let ferry: Ferry
  let handles: Map<string, Buffer>

  beforeEach(() => {
    ferry = new Ferry()
    mkdirSync(ferry.under('a/b'), { recursive: true })
    writeFileSync(ferry.under('a/b/old'), 'old')
    handles = new Map()
  })

  afterEach(() => ferry.clear())

  async function take(): Promise<void> {
    await ferry.call.writeFile(ferry.at('a/b/new'), 'new')
    await ferry.call.mkdir(ferry.at('a/c'))
    for (const path of ['a/b/old', 'a/b/new', 'a/b', 'a/c', ''])
      handles.set(path, await ferry.call.nameToHandle(ferry.at(path)))
  }

  const open = (path: string, flags: number): Promise<number> =>
    ferry.call.openByHandle(ferry.target, handles.get(path) ?? Buffer.alloc(0), flags)

  async function read(path: string): Promise<string> {
    const fd = await open(path, O_RDONLY)
    const text = (await ferry.call.read(fd, 100, 0)).toString()
    await ferry.call.close(fd)
    return text
  }

  async function expectAll(): Promise<void> {
    evict()
    expect([await read('a/b/old'), await read('a/b/new')]).toEqual(['old', 'new'])
    // Of a directory the kernel wants the way up to the root as well.
    for (const [path, within] of [
      ['a/b', ['new', 'old']],
      ['a/c', []],
      ['', ['a']],
    ] as const) {
      const fd = await open(path, O_RDONLY | O_DIRECTORY)
      const names = await ferry.call.names(`/proc/self/fd/${fd}`)
      expect(names.sort(), path).toEqual(within)
      await ferry.call.close(fd)
    }
  }

  test.each(['observe', 'mirror', 'prefer-store', 'drain'])(
    'P1: in %s lead to the same files after eviction, a kill of the worker, a rename and a new mount',
    async (mode) => {
      await ferry.mount('--mode', mode)
      await take()
      await expectAll()
      await ferry.killWorker()
      await expectAll()
      await ferry.call.rename(ferry.at('a'), ferry.at('elsewhere'))
      handles.delete('')
      evict()
      expect(await read('a/b/old')).toBe('old')
      const fd = await open('a/b/new', O_RDWR)
      await ferry.call.write(fd, 'changed', 0)
      await ferry.call.close(fd)
      await ferry.call.rename(ferry.at('elsewhere'), ferry.at('a'))
      expect((await ferry.call.readFile(ferry.at('a/b/new'))).toString()).toBe('changed')
      await ferry.call.writeFile(ferry.at('a/b/new'), 'new')
      handles.set('', await ferry.call.nameToHandle(ferry.target))
      await ferry.remount()
      await expectAll()
    },
  )

  test('P1: lead to what has left the volume, and never to another file', async () => {
    await ferry.mount('--mode', 'drain')
    await take()
    await ferry.done('mode', ferry.target, 'store-only', '--wait')
    await expectAll()
    const kept = await open('a/b/old', O_RDONLY)
    await ferry.call.unlink(ferry.at('a/b/old'))
    await ferry.call.unlink(ferry.at('a/b/new'))
    await ferry.call.writeFile(ferry.at('a/b/new'), 'another')
    evict()
    expect((await ferry.call.read(kept, 100, 0)).toString()).toBe('old')
    await ferry.call.close(kept)
    evict()
    for (const path of ['a/b/old', 'a/b/new']) await expect(read(path), path).rejects.toThrow('ESTALE')
  })
})
