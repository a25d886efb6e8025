import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { FsError } from '../../../src/base/errors.ts'
import { isDying } from '../../../src/fuse/kernel/interrupts.ts'
import type { AttributeAnswer, RequestContext } from '../../../src/fuse/operations.ts'
import { MemoryFileSystem } from '../../support/fuse/memory-file-system.ts'
import { describeMounted, mounted, run } from '../../support/fuse/mounted.ts'

const PATIENT = { interval: 5, timeout: 30_000 }

type Sticky = 'getattr' | 'read' | 'write'

/** One operation on files never answers by itself. */
class Stuck extends MemoryFileSystem {
  sticky: Sticky | undefined
  /** Whether a handler ends when its signal is aborted. */
  obedient = false
  readonly waiting: { context: RequestContext; finish: () => void }[] = []

  #stick<T>(operation: Sticky, context: RequestContext, work: () => T): T | Promise<T> {
    if (operation !== this.sticky) return work()
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const { signal } = context
    this.waiting.push({ context, finish: () => resolve(work()) })
    if (this.obedient) signal.addEventListener('abort', () => reject(new FsError('EINTR')))
    return promise
  }

  override getattr(context: RequestContext, node: bigint): AttributeAnswer | Promise<AttributeAnswer> {
    const work = () => super.getattr(context, node) as AttributeAnswer
    return node === 1n ? work() : this.#stick('getattr', context, work)
  }

  override read(
    context: RequestContext,
    ino: bigint,
    handle: bigint,
    offset: number,
    size: number,
  ): Buffer | Promise<Buffer> {
    return this.#stick('read', context, () => super.read(context, ino, handle, offset, size) as Buffer)
  }

  override write(
    context: RequestContext,
    ino: bigint,
    handle: bigint,
    offset: number,
    data: Buffer,
    options: { readonly killSuidGid: boolean; readonly flags: number },
  ): number | Promise<number> {
    return this.#stick(
      'write',
      context,
      () => super.write(context, ino, handle, offset, data, options) as number,
    )
  }
}

async function stuck(sticky: Sticky) {
  const fileSystem = new Stuck()
  fileSystem.sticky = sticky
  fileSystem.put('file', Buffer.from('content'))
  fileSystem.openAnswer = { directIo: true }
  const looks: number[] = []
  const mount = await mounted(fileSystem, {
    isDying: (pid) => {
      looks.push(pid)
      return isDying(pid)
    },
  })
  const children: ChildProcess[] = []
  onTestFinished(async () => {
    for (const { finish } of fileSystem.waiting) finish()
    for (const child of children) child.kill('SIGKILL')
    await mount.close()
  })
  const begin = (command: string, ...args: string[]) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'ignore'] })
    children.push(child)
    return child
  }
  const waiting = () => expect.poll(() => fileSystem.waiting.length, PATIENT).toBe(1)
  return { fileSystem, mount, file: join(mount.target, 'file'), looks, begin, waiting }
}

describeMounted('an application that waits for an answer that does not come', () => {
  it.each(['SIGINT', 'SIGTERM', 'SIGKILL'] as const)(
    'P6: reading, ends by %s, though the file system does not care',
    async (signal) => {
      const { fileSystem, mount, file, begin, waiting } = await stuck('read')
      const child = begin('cat', file)
      await waiting()
      child.kill(signal)
      const [, by] = await once(child, 'exit')
      expect(by).toBe(signal)
      expect(fileSystem.waiting.map(({ context }) => context.signal.aborted)).toEqual([true])
      expect(mount.session.inFlight).toBe(0)
      expect(await run('stat', '-f', '-c', '%s', mount.target)).toBe('4096\n')
    },
  )

  it('P6: writing, ends by SIGTERM once the file system gives up', async () => {
    const { fileSystem, file, begin, waiting } = await stuck('write')
    fileSystem.obedient = true
    const child = begin('sh', '-c', 'exec dd if=/dev/zero of="$1" bs=4k count=1 conv=notrunc', 'sh', file)
    await waiting()
    child.kill('SIGTERM')
    const [, by] = await once(child, 'exit')
    expect(by).toBe('SIGTERM')
  })

  it('P6: of two signals the second, fatal one ends it', async () => {
    const { file, looks, begin, waiting } = await stuck('getattr')
    const child = begin(
      'python3',
      '-c',
      'import os,signal,sys; signal.signal(signal.SIGUSR1, lambda *_: None); os.stat(sys.argv[1])',
      file,
    )
    await waiting()
    child.kill('SIGUSR1')
    await expect.poll(() => looks.length, PATIENT).toBeGreaterThan(0)
    child.kill('SIGTERM')
    const [, by] = await once(child, 'exit')
    expect(by).toBe('SIGTERM')
  })

  it('P7: gets no EINTR for a signal that it handles', async () => {
    const { fileSystem, file, looks, begin, waiting } = await stuck('read')
    // ctypes, because Python's own os.stat would hide an EINTR by trying again.
    const child = begin(
      'python3',
      '-c',
      `
import ctypes, os, signal, sys
handled = []
signal.siginterrupt(signal.SIGUSR1, True)
signal.signal(signal.SIGUSR1, lambda *_: handled.append(1))
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(4096)
fd = os.open(sys.argv[1], os.O_RDONLY)
count = libc.read(fd, buffer, 100)
print(count, ctypes.get_errno(), buffer.value.decode(), len(handled))`,
      file,
    )
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
    await waiting()
    child.kill('SIGUSR1')
    await expect.poll(() => looks.length, PATIENT).toBeGreaterThan(0)
    expect(fileSystem.waiting.map(({ context }) => context.signal.aborted)).toEqual([false])
    for (const { finish } of fileSystem.waiting) finish()
    await once(child, 'close')
    expect(output).toBe('7 0 content 1\n')
  })
})
