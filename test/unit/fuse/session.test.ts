import fc from 'fast-check'
import { describe, expect, it, onTestFinished } from 'vitest'
import { FsError } from '../../../src/base/errors.ts'
import { KernelSession } from '../../../src/fuse/kernel/session.ts'
import type { SessionOptions } from '../../../src/fuse/kernel/session-options.ts'
import type { Entry, FileSystem } from '../../../src/fuse/operations.ts'
import { FakeDevice } from '../../support/fuse/fake-device.ts'
import { cstr, frame, initFrame, readAnswer, readEntry, u32, u64 } from '../../support/fuse/frames.ts'
import { MemoryFileSystem } from '../../support/fuse/memory-file-system.ts'
import { keepingLog } from '../../support/fuse/keeping-log.ts'

const STATE = { version: 1, minor: 45, flags: '0x8070f4f061', maxWrite: 1024 * 1024, resend: true }
const RESENT = 1n << 63n

function serving<F extends FileSystem>(fileSystem: F, options: Partial<SessionOptions> = {}) {
  const device = new FakeDevice()
  const log = keepingLog()
  const session = new KernelSession({ fd: -1, device, fileSystem, log, state: STATE, ...options })
  session.start()
  onTestFinished(() => {
    void session.stop()
  })
  return { device, log, session, fileSystem }
}

const getattr = (unique: bigint, node = 1n): Buffer => frame(3, { unique, node }, u32(0), u32(0), u64(0))
const lookup = (unique: bigint, name: string): Buffer => frame(1, { unique }, cstr(name))
const read = (unique: bigint, node: bigint, size: number): Buffer =>
  frame(15, { unique, node }, u64(1), u64(0), u32(size), u32(0), u64(0), u32(0), u32(0))
const write = (unique: bigint, node: bigint, data: Buffer): Buffer =>
  frame(16, { unique, node }, u64(1), u64(0), u32(data.length), u32(0), u64(0), u32(0), u32(0), data)

describe('a session', () => {
  it('answers with the unique of the request, and tells the file system afterwards', async () => {
    const { device, fileSystem } = serving(new MemoryFileSystem())
    const answer = await device.ask(getattr(100n))
    expect(answer).toMatchObject({ error: 0, length: 16 + 104 })
    expect(fileSystem.answers).toEqual([100n])
  })

  it('sends an answer at once in the same tick as its effect', async () => {
    const order: string[] = []
    class Watching extends MemoryFileSystem {
      override seen(call: string): void {
        order.push(call)
        void Promise.resolve().then(() => order.push('microtask'))
      }
      override answered(): void {
        order.push('answered')
      }
    }
    const { device } = serving(new Watching())
    await device.ask(frame(9, { unique: 2n }, u32(0o755), u32(0), cstr('d')))
    expect(order).toEqual(['mkdir', 'answered', 'microtask'])
  })

  it('hands over who asks, and the umask with what is made', async () => {
    const { device, fileSystem } = serving(new MemoryFileSystem())
    await device.ask(frame(9, { unique: 2n, uid: 5, gid: 6, pid: 7 }, u32(0o777), u32(0o027), cstr('d')))
    expect(fileSystem.contexts[0]).toMatchObject({ uid: 5, gid: 6, pid: 7, umask: 0o027, unique: 2n })
    await device.ask(lookup(4n, 'd'))
    expect(fileSystem.contexts[1]).toMatchObject({ umask: 0 })
    expect(readEntry((await device.answerTo(4n)).body).attributes.mode).toBe(0o40750)
  })

  it('P7: a resent request is told as such, and answered under the id it came with', async () => {
    const { device, fileSystem } = serving(new MemoryFileSystem())
    const answer = await device.ask(getattr(RESENT | 100n))
    expect(answer.unique).toBe(RESENT | 100n)
    expect(fileSystem.contexts[0]).toMatchObject({ unique: 100n, resent: true })
    expect(fileSystem.answers).toEqual([100n])
    await device.ask(getattr(102n))
    expect(fileSystem.contexts[1]).toMatchObject({ unique: 102n, resent: false })
  })

  it('P7: asks for unanswered requests before it reads the first one', async () => {
    const device = new FakeDevice()
    device.push(getattr(2n))
    const takenBefore: number[] = []
    const write = device.write.bind(device)
    device.write = (...args) => {
      if (takenBefore.length === 0) takenBefore.push(device.taken)
      return write(...args)
    }
    const fileSystem = new MemoryFileSystem()
    const session = new KernelSession({ fd: -1, device, fileSystem, log: keepingLog(), state: STATE })
    session.start()
    await device.answerTo(2n)
    expect(takenBefore).toEqual([0])
    expect(readAnswer(device.written[0] ?? Buffer.alloc(16))).toMatchObject({
      length: 16,
      error: 7,
      unique: 0n,
    })
    await session.stop()
  })

  it('on a kernel that cannot resend, taking over is said to be incomplete', () => {
    const device = new FakeDevice()
    device.writeResults.push(-22)
    const log = keepingLog()
    const session = new KernelSession({
      fd: -1,
      device,
      fileSystem: new MemoryFileSystem(),
      log,
      state: STATE,
    })
    session.start()
    expect(log.lines).toMatchObject([{ level: 'warn' }])
    void session.stop()
  })
})

describe('P6: a request is answered, whatever is wrong with it', () => {
  it.each([
    ['an unknown opcode', frame(999, {}), -38],
    ['CUSE_INIT', frame(4096, {}), -38],
    ['ACCESS, left to default_permissions', frame(34, {}, u64(0)), -38],
    ['TMPFILE, of a file system that has none', frame(51, {}, Buffer.alloc(16), cstr('/')), -95],
    ['POLL', frame(40, {}, Buffer.alloc(24)), -38],
    ['BMAP', frame(37, {}, Buffer.alloc(16)), -38],
    ['SETLK', frame(32, {}, Buffer.alloc(48)), -38],
    ['IOCTL', frame(39, {}, Buffer.alloc(32)), -25],
    ['DESTROY', frame(38, {}), 0],
    ['a name without end', frame(1, {}, Buffer.from('name')), -22],
    ['a body that is too short', frame(3, {}, u32(0)), -5],
    ['a node that is unknown', getattr(2n, 99n), -116],
  ])('%s', async (_what, bytes, error) => {
    const { device } = serving(new MemoryFileSystem())
    expect((await device.ask(bytes)).error).toBe(error)
    expect((await device.ask(getattr(8n))).error).toBe(0)
  })

  it('a header that lies about the length', async () => {
    const { device, log } = serving(new MemoryFileSystem())
    const bytes = getattr(2n)
    bytes.writeUInt32LE(9999, 0)
    expect((await device.ask(bytes)).error).toBe(-5)
    expect(log.lines).toMatchObject([{ level: 'error' }])
  })

  it('less than a header has nothing to be answered, and is logged', async () => {
    const { device, log } = serving(new MemoryFileSystem())
    device.push(Buffer.alloc(39))
    expect((await device.ask(getattr(2n))).error).toBe(0)
    expect(log.lines).toMatchObject([{ level: 'error', fields: { bytes: 39 } }])
  })

  it('extensions behind the body are not taken for names', async () => {
    const { device, fileSystem } = serving(new MemoryFileSystem())
    const extension = Buffer.concat([u32(16), u32(32), u32(1), u32(100)])
    const bytes = frame(9, { extension }, u32(0o755), u32(0), cstr('d'))
    expect((await device.ask(bytes)).error).toBe(0)
    expect([...fileSystem.node(1n).entries.keys()]).toEqual(['d'])
    const tooLong = frame(9, { unique: 4n, extension }, u32(0o755), u32(0), cstr('e'))
    tooLong.writeUInt16LE(1000, 36)
    expect((await device.ask(tooLong)).error).toBe(-5)
  })

  it('any bytes at all: the session lives, and answers the next request', async () => {
    const { device, log } = serving(new MemoryFileSystem())
    let unique = 1000n
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 60 }),
        fc.uint8Array({ maxLength: 300 }),
        fc.boolean(),
        async (opcode, bytes, honest) => {
          unique += 4n
          // INIT would agree on something else.
          const bad = frame(opcode === 26 ? 27 : opcode, { unique }, Buffer.from(bytes))
          if (!honest) bad.writeUInt32LE(bytes.length, 0)
          device.push(bad)
          expect((await device.ask(getattr(unique + 2n))).error).toBe(0)
          const withoutAnswer = [2, 36, 41, 42].includes(opcode)
          expect(device.answers.some((answer) => answer.unique === unique)).toBe(!withoutAnswer)
          device.written.length = 0
        },
      ),
      { numRuns: 500 },
    )
    expect(log.lines.every((line) => line.level === 'error')).toBe(true)
  })
})

describe('what a file system does wrong', () => {
  class Failing extends MemoryFileSystem {
    error: unknown
    later = false
    override lookup(): Entry | Promise<Entry> {
      if (this.later) return Promise.reject(this.error)
      throw this.error
    }
  }

  it.each([false, true])('an FsError is its errno (later: %s)', async (later) => {
    const { device, fileSystem, log } = serving(new Failing())
    fileSystem.later = later
    fileSystem.error = new FsError('ENOTEMPTY')
    expect((await device.ask(lookup(2n, 'a'))).error).toBe(-39)
    expect(log.lines).toEqual([])
  })

  it.each([false, true])('anything else is EIO, and logged with its cause (later: %s)', async (later) => {
    const { device, fileSystem, log } = serving(new Failing())
    fileSystem.later = later
    fileSystem.error = new TypeError('undefined is not a function')
    expect((await device.ask(lookup(2n, 'a'))).error).toBe(-5)
    expect(log.lines).toMatchObject([
      { level: 'error', fields: { operation: 'LOOKUP', err: fileSystem.error } },
    ])
  })

  it('P1: ENOSYS never reaches the kernel, which would not ask again for any file', async () => {
    const { device, fileSystem } = serving(new Failing())
    fileSystem.error = new FsError('ENOSYS')
    expect((await device.ask(lookup(2n, 'a'))).error).toBe(-95)
  })

  it('an answer that cannot be put into bytes is EIO', async () => {
    const { device, log } = serving(
      new (class extends MemoryFileSystem {
        override read(): Buffer {
          return Object.assign(Object.create(null), {})
        }
      })(),
    )
    expect((await device.ask(read(2n, 1n, 10))).error).toBe(-5)
    expect(log.lines).toMatchObject([{ level: 'error' }])
  })

  it('P1: a READ never answers more than was asked for', async () => {
    const { device } = serving(
      new (class extends MemoryFileSystem {
        override read(): Buffer {
          return Buffer.alloc(100, 7)
        }
      })(),
    )
    expect((await device.ask(read(2n, 1n, 10))).body.length).toBe(10)
  })

  it('a throwing answered() or forget() harms nothing', async () => {
    const { device, log } = serving(
      new (class extends MemoryFileSystem {
        override answered(): void {
          throw new Error('answered')
        }
        override forget(): void {
          throw new Error('forget')
        }
      })(),
    )
    device.push(frame(2, { unique: 2n }, u64(1)))
    expect((await device.ask(getattr(4n))).error).toBe(0)
    expect(log.lines.map((line) => line.level)).toEqual(['error', 'error'])
    expect(device.answers.length).toBe(1)
  })

  it('an answer that the kernel refuses becomes EIO, so that nobody waits forever', async () => {
    const { device, log } = serving(new MemoryFileSystem())
    device.writeResults.push(-22)
    expect((await device.ask(getattr(2n))).error).toBe(-5)
    expect(log.lines).toMatchObject([{ level: 'error', fields: { errno: 22 } }])
  })

  it('look-ups and open files of an answer that did not arrive are given back', async () => {
    const { device, fileSystem } = serving(new MemoryFileSystem())
    const ino = fileSystem.put('f', Buffer.from('content'))
    device.writeResults.push(-2, -2, -2)
    device.push(lookup(2n, 'f'))
    device.push(frame(14, { unique: 4n, node: ino }, u32(0), u32(0)))
    device.push(frame(44, { unique: 6n }, u64(1), u64(0), u32(4096), u32(0), u64(0), u32(0), u32(0)))
    await device.settle()
    expect(device.answers).toEqual([])
    expect(fileSystem.node(ino).lookups).toBe(0n)
    expect(fileSystem.openHandles.size).toBe(0)
    expect(fileSystem.answers).toEqual([2n, 4n, 6n])
  })
})

describe('FORGET', () => {
  it('is passed on and never answered, also in batches', async () => {
    const forgotten: [bigint, bigint][] = []
    const { device } = serving(
      new (class extends MemoryFileSystem {
        override forget(node: bigint, count: bigint): void {
          forgotten.push([node, count])
        }
      })(),
    )
    device.push(frame(2, { unique: 2n, node: 7n }, u64(3)))
    device.push(frame(42, { unique: 4n }, u32(2), u32(0), u64(8), u64(1), u64(9), u64(2)))
    device.push(frame(42, { unique: 6n }, u32(1000), u32(0), u64(10), u64(1)))
    await device.ask(getattr(8n))
    expect(forgotten).toEqual([
      [7n, 3n],
      [8n, 1n],
      [9n, 2n],
      [10n, 1n],
    ])
    expect(device.answers.map((answer) => answer.unique)).toEqual([8n])
  })
})

/** Writes wait until they are let go. */
class SlowWrites extends MemoryFileSystem {
  readonly waiting: { data: Buffer; finish: () => void }[] = []
  override write(
    _context: unknown,
    _ino: bigint,
    _handle: bigint,
    _offset: number,
    data: Buffer,
  ): Promise<number> {
    return new Promise((resolve) => {
      this.waiting.push({ data, finish: () => resolve(data.length) })
    })
  }
}

describe('WRITE', () => {
  const block = (fill: number): Buffer => Buffer.alloc(64 * 1024, fill)

  it('P1: its data stays as it is until the answer, whatever is read meanwhile', async () => {
    const { device, fileSystem } = serving(new SlowWrites())
    device.push(write(2n, 1n, block(1)), write(4n, 1n, block(2)))
    await device.ask(getattr(6n))
    device.push(write(8n, 1n, block(3)))
    await device.ask(getattr(10n))
    expect(fileSystem.waiting.map(({ data }) => data.equals(block(data[0] ?? 0)))).toEqual([true, true, true])
    expect(fileSystem.waiting.map(({ data }) => data[0])).toEqual([1, 2, 3])
    for (const { finish } of fileSystem.waiting) finish()
    expect((await device.answerTo(8n)).error).toBe(0)
  })

  it('P6: with all buffers lent, reading pauses and goes on with the first one back', async () => {
    const { device, fileSystem, log } = serving(new SlowWrites(), { writeBuffers: 2 })
    device.push(write(2n, 1n, block(1)), write(4n, 1n, block(2)), getattr(6n))
    await device.settle()
    expect(device.taken).toBe(2)
    expect(device.watching).toBe(false)
    expect(log.lines).toMatchObject([{ level: 'warn' }])
    fileSystem.waiting[1]?.finish()
    expect((await device.answerTo(6n)).error).toBe(0)
    expect(device.answers.map((answer) => answer.unique)).toEqual([4n, 6n])
    fileSystem.waiting[0]?.finish()
    expect((await device.answerTo(2n)).error).toBe(0)
  })
})

describe('the end', () => {
  it.each([
    ['ENODEV: unmounted', 19, 'unmounted'],
    ['ECONNABORTED: cut', 103, 'aborted'],
    ['EPERM: not a mounted device', 1, 'failed'],
  ])('%s', async (_what, errno, reason) => {
    const { device, session } = serving(new MemoryFileSystem())
    device.push(errno)
    expect(await session.done).toMatchObject({ reason })
    expect(device.watching).toBe(false)
  })

  it('a withdrawn request and a signal are no end', async () => {
    const { device } = serving(new MemoryFileSystem())
    device.push(2, 4, getattr(2n))
    expect((await device.answerTo(2n)).error).toBe(0)
  })

  it('stop takes nothing more, and resolves when what was taken is answered', async () => {
    const { device, session, fileSystem } = serving(new SlowWrites())
    device.push(write(2n, 1n, Buffer.from('data')))
    await device.settle()
    expect(session.inFlight).toBe(1)
    let stopped = false
    const stopping = session.stop().then(() => {
      stopped = true
    })
    device.push(getattr(4n))
    await device.settle()
    expect(stopped).toBe(false)
    fileSystem.waiting[0]?.finish()
    await stopping
    expect(await session.done).toEqual({ reason: 'stopped' })
    expect(device.answers.map((answer) => answer.unique)).toEqual([2n])
    expect(device.taken).toBe(1)
    await session.stop()
  })

  it('starts once', () => {
    const { session } = serving(new MemoryFileSystem())
    expect(() => session.start()).toThrow(/once/)
  })

  it('without a state it waits for INIT', async () => {
    const device = new FakeDevice()
    const fileSystem = new MemoryFileSystem()
    const session = new KernelSession({ fd: -1, device, fileSystem, log: keepingLog(), state: undefined })
    session.start()
    await device.ask(initFrame(45, 1n))
    expect(await session.ready).toMatchObject({ minor: 45 })
    await session.stop()
  })
})
