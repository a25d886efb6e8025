import { describe, expect, it } from 'vitest'
import type { SessionState } from '../../../src/fuse/kernel/init.ts'
import { KernelSession } from '../../../src/fuse/kernel/session.ts'
import { FakeDevice } from '../../support/fuse/fake-device.ts'
import { frame, initFrame } from '../../support/fuse/frames.ts'
import { MemoryFileSystem } from '../../support/fuse/memory-file-system.ts'
import { keepingLog } from '../../support/fuse/keeping-log.ts'

const EVERYTHING = 2n ** 64n - 1n
const flag = (bit: number): bigint => 1n << BigInt(bit)
const WRITEBACK_CACHE = flag(16)
const POSIX_LOCKS = flag(1)
const FLOCK_LOCKS = flag(10)
const ATOMIC_O_TRUNC = flag(3)
const MAX_PAGES = flag(22)
const INIT_EXT = flag(30)
const HAS_EXPIRE_ONLY = flag(35)
const HAS_RESEND = flag(39)

function started(options: { state?: unknown; maxWrite?: number } = {}) {
  const device = new FakeDevice()
  const states: SessionState[] = []
  const session = new KernelSession({
    fd: -1,
    device,
    fileSystem: new MemoryFileSystem(),
    log: keepingLog(),
    onInit: (state) => {
      // Whoever keeps the state has it before the kernel may send anything else.
      expect(device.answers).toEqual([])
      states.push(state)
    },
    ...options,
  })
  session.start()
  return { device, session, states }
}

/** `struct fuse_init_out` */
function readInit(body: Buffer) {
  const low = BigInt(body.readUInt32LE(12))
  return {
    major: body.readUInt32LE(0),
    minor: body.readUInt32LE(4),
    maxReadahead: body.readUInt32LE(8),
    flags: (BigInt(body.readUInt32LE(32)) << 32n) | low,
    maxBackground: body.readUInt16LE(16),
    maxWrite: body.readUInt32LE(20),
    timeGranularity: body.readUInt32LE(24),
    maxPages: body.readUInt16LE(28),
  }
}

describe('INIT', () => {
  it.each([
    [31, 31],
    [35, 35],
    [36, 36],
    [38, 38],
    [40, 40],
    [45, 45],
    [99, 45],
  ])('a kernel that speaks 7.%i is answered with 7.%i and 64 bytes', async (theirs, agreed) => {
    const { device, session } = started()
    const answer = await device.ask(initFrame(theirs, theirs < 36 ? flag(30) - 1n : EVERYTHING))
    expect(answer).toMatchObject({ error: 0, length: 16 + 64 })
    expect(readInit(answer.body)).toMatchObject({
      major: 7,
      minor: agreed,
      maxWrite: 1024 * 1024,
      maxPages: 256,
      timeGranularity: 1,
    })
    await session.stop()
  })

  it('only what the kernel offers is agreed on', async () => {
    const { device, session } = started()
    const offered = flag(0) | flag(5) | MAX_PAGES
    expect(readInit((await device.ask(initFrame(31, offered))).body).flags).toBe(offered)
    await session.stop()
  })

  it('flags beyond 32 bits count only with FUSE_INIT_EXT', async () => {
    const { device, session, states } = started()
    const answer = await device.ask(initFrame(40, EVERYTHING & ~INIT_EXT))
    expect(readInit(answer.body).flags >> 32n).toBe(0n)
    expect(states).toMatchObject([{ resend: false }])
    await session.stop()
  })

  it('P2, P7: no write-back cache, and the locks stay with the kernel', async () => {
    const { device, session } = started()
    const { flags } = readInit((await device.ask(initFrame(45, EVERYTHING))).body)
    expect(flags & (WRITEBACK_CACHE | POSIX_LOCKS | FLOCK_LOCKS | ATOMIC_O_TRUNC)).toBe(0n)
    for (const bit of [0, 4, 5, 6, 12, 13, 14, 18, 20, 22, 23, 28, 29, 30, 35, 39])
      expect(flags & flag(bit)).toBe(flag(bit))
    await session.stop()
  })

  it('P7: the state tells whether the connection survives its worker', async () => {
    const { device, session, states } = started({ maxWrite: 65536 })
    await device.ask(initFrame(40, EVERYTHING))
    expect(states).toMatchObject([{ version: 1, minor: 40, maxWrite: 65536, resend: true }])
    expect(await session.ready).toEqual(states[0])
    expect(JSON.parse(JSON.stringify(states[0]))).toEqual(states[0])
    await session.stop()
  })

  it('the state of a predecessor stands for INIT', async () => {
    const flags = HAS_RESEND | HAS_EXPIRE_ONLY
    const state = { version: 1, minor: 40, flags: `0x${flags.toString(16)}`, maxWrite: 65536, resend: true }
    const { device, session } = started({ state })
    expect(await session.ready).toEqual(state)
    expect((await device.ask(frame(3, {}, Buffer.alloc(16)))).error).toBe(0)
    await session.stop()
  })

  it.each([
    ['another version', { version: 2, minor: 40, flags: '0x0', maxWrite: 65536 }],
    ['no number', { version: 1, minor: 40, flags: '0x0', maxWrite: '65536' }],
    ['a size out of reason', { version: 1, minor: 40, flags: '0x0', maxWrite: 2 ** 40 }],
    ['no flags', { version: 1, minor: 40, flags: 'all', maxWrite: 65536 }],
    ['text', 'state'],
  ])('a state with %s is refused at once', (_what, state) => {
    expect(() => started({ state })).toThrow(/state of the FUSE connection/)
  })

  it('a newer major version gets ours, and may ask again', async () => {
    const { device, session } = started()
    const first = await device.ask(initFrame(0, 0n, { major: 8, unique: 2n }))
    expect(first.error).toBe(0)
    expect(readInit(first.body)).toMatchObject({ major: 7 })
    device.written.length = 0
    const second = await device.ask(initFrame(45, EVERYTHING, { unique: 4n }))
    expect(readInit(second.body)).toMatchObject({ major: 7, minor: 45 })
    await session.stop()
  })

  it.each([
    ['an older major version', 6, 10],
    ['Linux 5.3', 7, 30],
  ])('%s is refused with words, and nothing is served', async (_what, major, minor) => {
    const { device, session } = started()
    expect((await device.ask(initFrame(minor, 0n, { major }))).error).toBe(-71)
    const end = await session.done
    expect(end).toMatchObject({ reason: 'failed' })
    expect(end.reason === 'failed' && end.error.message).toMatch(/needs 7\.31, Linux 5\.4/)
  })

  it('a request before INIT gets an error, not a crash', async () => {
    const { device, session } = started()
    expect((await device.ask(frame(3, {}, Buffer.alloc(16)))).error).toBe(-5)
    await session.stop()
  })

  it('READs stay within max_write on machines with large pages', async () => {
    const device = new (class extends FakeDevice {
      override readonly pageSize = 65536
    })()
    const session = new KernelSession({
      fd: -1,
      device,
      fileSystem: new MemoryFileSystem(),
      log: keepingLog(),
    })
    session.start()
    expect(readInit((await device.ask(initFrame(45, EVERYTHING))).body).maxPages).toBe(16)
    await session.stop()
  })
})
