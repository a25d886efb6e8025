import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, mkdtempSync, promises as fs, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import {
  isStale,
  KernelSession,
  MountError,
  mountKernel,
  mountsOf,
  openFuseDevice,
  probeMount,
  unmountKernel,
} from '../../../src/fuse/index.ts'
import { keepingLog } from '../../support/fuse/keeping-log.ts'
import { MemoryFileSystem } from '../../support/fuse/memory-file-system.ts'
import { describeMounted, mounted, run } from '../../support/fuse/mounted.ts'

const FSNAME = 'ferryfs-test'

function directory(): string {
  const made = mkdtempSync(join(tmpdir(), 'ferryfs-mount-'))
  onTestFinished(() => rmSync(made, { recursive: true, force: true }))
  return made
}

/** A mount that nobody serves. */
async function unserved(target: string, options: readonly string[] = []) {
  const mount = await mountKernel({ target, source: 'test source', fsname: FSNAME, options })
  let open = true
  const close = (): void => {
    if (open) closeSync(mount.fd)
    open = false
  }
  onTestFinished(async () => {
    while (mountsOf(mount.target).length > 0) await unmountKernel(mount.target, { lazy: true })
    close()
  })
  return { ...mount, close }
}

const failure = (reason: string) => expect.objectContaining({ name: 'MountError', reason })

describeMounted('mounting', () => {
  it('shows source, type and options, reads ahead 1 MiB, and resolves symlinks and odd names', async () => {
    const base = directory()
    const real = join(base, 'a b\\c\n"d"')
    mkdirSync(real)
    await fs.symlink(real, join(base, 'link'))
    const { target } = await unserved(join(base, 'link'), ['noatime'])
    expect(target).toBe(real)
    const [entry] = mountsOf(target)
    expect(entry).toMatchObject({ type: `fuse.${FSNAME}`, source: 'test source' })
    expect(entry?.options).toMatch(/default_permissions.*allow_other/)
    expect(await fs.readFile(`/sys/class/bdi/${entry?.device}/read_ahead_kb`, 'utf8')).toBe('1024\n')
    await unmountKernel(target)
    expect(mountsOf(target)).toEqual([])
  })

  it('refuses what is no directory, or not there', async () => {
    const base = directory()
    writeFileSync(join(base, 'file'), '')
    for (const name of ['file', 'none', 'none/below', 'file/below']) {
      const mounting = mountKernel({ target: join(base, name), source: 'test', fsname: FSNAME })
      await expect(mounting).rejects.toEqual(failure('not-a-directory'))
      await expect(mounting).rejects.toThrow(base)
    }
  })

  it('refuses to mount a second time over itself', async () => {
    const { target } = await unserved(directory())
    await expect(mountKernel({ target, source: 'test', fsname: FSNAME })).rejects.toEqual(failure('busy'))
    expect(mountsOf(target).length).toBe(1)
  })

  it('says what mount(8) says, and leaves nothing behind', async () => {
    const target = directory()
    const mounting = mountKernel({ target, source: 'test', fsname: FSNAME, options: ['nonsense=1'] })
    await expect(mounting).rejects.toBeInstanceOf(MountError)
    await expect(mounting).rejects.toThrow(target)
    expect(mountsOf(target)).toEqual([])
  })
})

describeMounted('mounting a descriptor that was opened before', () => {
  it('serves on it, and leaves it open where the mount fails', async () => {
    const fd = openFuseDevice()
    onTestFinished(() => closeSync(fd))
    await expect(
      mountKernel({ fd, target: directory(), source: 'test', fsname: FSNAME, options: ['nonsense=1'] }),
    ).rejects.toBeInstanceOf(MountError)
    const { target } = await mountKernel({ fd, target: directory(), source: 'test', fsname: FSNAME })
    const fileSystem = new MemoryFileSystem()
    const session = new KernelSession({ fd, fileSystem, log: keepingLog() })
    session.start()
    await session.ready
    expect(await probeMount(target)).toBe('answers')
    await unmountKernel(target)
    expect(await session.done).toEqual({ reason: 'unmounted' })
  })
})

describeMounted('unmounting', () => {
  it('refuses while the mount is in use, unless lazy; the session ends with the last user', async () => {
    const mount = await mounted(new MemoryFileSystem())
    // Not by the option cwd: this process, which serves, waits for its child to get there.
    const user = spawn('sh', ['-c', 'cd "$1" && echo there && exec sleep 1000', 'sh', mount.target], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    try {
      await once(user.stdout, 'data')
      await expect(unmountKernel(mount.target)).rejects.toEqual(failure('busy'))
      await unmountKernel(mount.target, { lazy: true })
      expect(mountsOf(mount.target)).toEqual([])
      expect(await Promise.race([mount.session.done, Promise.resolve('serving')])).toBe('serving')
    } finally {
      user.kill('SIGKILL')
      await once(user, 'exit')
    }
    expect(await mount.session.done).toEqual({ reason: 'unmounted' })
    await mount.close()
  })

  it('says when there is nothing', async () => {
    await expect(unmountKernel(directory())).rejects.toEqual(failure('not-mounted'))
  })

  it('umount(8) from outside ends the session', async () => {
    const mount = await mounted(new MemoryFileSystem())
    await run('umount', mount.target)
    expect(await mount.session.done).toEqual({ reason: 'unmounted' })
    await mount.close()
  })

  it('cutting the connection ends the session', async () => {
    const mount = await mounted(new MemoryFileSystem())
    await run('umount', '-f', '-l', mount.target)
    expect(['aborted', 'unmounted']).toContain((await mount.session.done).reason)
    await mount.close()
  })
})

describeMounted('looking at a mount from outside', () => {
  it('tells one that answers, one whose server is dead, one that is silent, and none', async () => {
    const target = directory()
    expect(await probeMount(target)).toBe('absent')
    expect(await isStale(target)).toBe(false)

    const mount = await mounted(new MemoryFileSystem())
    expect(await probeMount(mount.target)).toBe('answers')
    await mount.close()

    const dead = await unserved(target)
    expect(await probeMount(target, 300)).toBe('silent')
    expect(await isStale(target, 300)).toBe(false)
    dead.close()
    expect(await probeMount(target)).toBe('stale')
    expect(await isStale(target)).toBe(true)
    // A stale mount is replaced: detach, mount again.
    await expect(mountKernel({ target, source: 'test', fsname: FSNAME })).rejects.toEqual(failure('busy'))
    await unmountKernel(target, { lazy: true })
    await unserved(target)
    expect(mountsOf(target).length).toBe(1)
  })
})
