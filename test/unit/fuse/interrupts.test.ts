import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants } from 'node:os'
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { FsError } from '../../../src/base/errors.ts'
import { diesNext, isDying } from '../../../src/fuse/kernel/interrupts.ts'
import { KernelSession } from '../../../src/fuse/kernel/session.ts'
import type { Entry, RequestContext } from '../../../src/fuse/operations.ts'
import { FakeDevice } from '../../support/fuse/fake-device.ts'
import { cstr, frame, u32, u64 } from '../../support/fuse/frames.ts'
import { MemoryFileSystem } from '../../support/fuse/memory-file-system.ts'
import { keepingLog } from '../../support/fuse/keeping-log.ts'

const STATE = { version: 1, minor: 45, flags: '0x8070f4f061', maxWrite: 1024 * 1024, resend: true }
const RESENT = 1n << 63n

const lookup = (unique: bigint): Buffer => frame(1, { unique, pid: 77 }, cstr('f'))
const unlink = (unique: bigint): Buffer => frame(10, { unique, pid: 77 }, cstr('f'))
const interrupt = (unique: bigint): Buffer => frame(36, { unique: unique | 1n, node: 0n }, u64(unique))
const getattr = (unique: bigint): Buffer => frame(3, { unique }, u32(0), u32(0), u64(0))

/** Answers LOOKUP and UNLINK only when told to. */
class Waiting extends MemoryFileSystem {
  readonly signals: AbortSignal[] = []
  finish: () => void = () => {}
  /** Gives up when asked to. */
  obedient = false

  #wait<T>(context: RequestContext, result: () => T): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    this.finish = () => resolve(result())
    this.signals.push(context.signal)
    if (this.obedient) {
      if (context.signal.aborted) reject(new FsError('EINTR'))
      context.signal.addEventListener('abort', () => reject(new FsError('EINTR')))
    }
    return promise
  }

  override lookup(context: RequestContext, parent: bigint, name: Buffer): Promise<Entry> {
    return this.#wait(context, () => this.entryOf(this.child(parent, name)))
  }

  override unlink(context: RequestContext, parent: bigint, name: Buffer): Promise<void> {
    return this.#wait(context, () => super.unlink(context, parent, name))
  }
}

function serving() {
  const device = new FakeDevice()
  const fileSystem = new Waiting()
  const ino = fileSystem.put('f', Buffer.from('content'))
  const dying = { now: false, asked: [] as number[] }
  const session = new KernelSession({
    fd: -1,
    device,
    fileSystem,
    log: keepingLog(),
    state: STATE,
    isDying: (pid) => {
      dying.asked.push(pid)
      return dying.now
    },
  })
  session.start()
  onTestFinished(() => {
    void session.stop()
  })
  return { device, fileSystem, session, dying, ino }
}

describe('INTERRUPT', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('P7: a signal that does not kill the caller changes nothing: local files know no EINTR', async () => {
    const { device, fileSystem, dying } = serving()
    fileSystem.obedient = true
    device.push(lookup(2n), interrupt(2n))
    await device.ask(getattr(4n))
    expect(dying.asked).toEqual([77])
    expect(fileSystem.signals.map((signal) => signal.aborted)).toEqual([false])
    fileSystem.finish()
    expect((await device.answerTo(2n)).error).toBe(0)
  })

  it('aborts the signal of a caller that is being killed', async () => {
    const { device, fileSystem, dying } = serving()
    fileSystem.obedient = true
    dying.now = true
    device.push(unlink(2n), interrupt(2n))
    expect((await device.answerTo(2n)).error).toBe(-4)
    expect(fileSystem.signals.map((signal) => signal.aborted)).toEqual([true])
  })

  it('P6: a caller that is killed later is noticed, though the kernel sends no second INTERRUPT', async () => {
    const { device, fileSystem, dying } = serving()
    fileSystem.obedient = true
    device.push(lookup(2n), interrupt(2n))
    await device.ask(getattr(4n))
    vi.advanceTimersByTime(1000)
    expect(fileSystem.signals.map((signal) => signal.aborted)).toEqual([false])
    dying.now = true
    vi.advanceTimersByTime(200)
    expect((await device.answerTo(2n)).error).toBe(-4)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('P6: a killed reader goes at once, whatever the file system does; a late result is given back', async () => {
    const { device, fileSystem, session, dying, ino } = serving()
    dying.now = true
    device.push(lookup(2n), interrupt(2n))
    expect((await device.answerTo(2n)).error).toBe(-4)
    expect(session.inFlight).toBe(0)
    fileSystem.finish()
    await device.ask(getattr(4n))
    expect(fileSystem.node(ino).lookups).toBe(0n)
    expect(device.answers.length).toBe(2)
  })

  it('P2: a change is waited for, because it may still take effect', async () => {
    const { device, fileSystem, dying } = serving()
    dying.now = true
    device.push(unlink(2n), interrupt(2n))
    await device.ask(getattr(4n))
    expect(device.answers.map((answer) => answer.unique)).toEqual([4n])
    fileSystem.finish()
    expect((await device.answerTo(2n)).error).toBe(0)
  })

  it('that overtakes its resent request is remembered', async () => {
    const { device, fileSystem, dying } = serving()
    dying.now = true
    fileSystem.obedient = true
    device.push(interrupt(RESENT | 2n), lookup(RESENT | 2n))
    expect((await device.answerTo(RESENT | 2n)).error).toBe(-4)
    expect(fileSystem.signals.map((signal) => signal.aborted)).toEqual([true])
  })

  it('P6: for requests long answered leaves nothing behind but a bounded list', async () => {
    const { device, fileSystem, dying } = serving()
    fileSystem.obedient = true
    dying.now = true
    for (let unique = 10n; unique < 10n + 2n * 1100n; unique += 2n) device.push(interrupt(unique))
    await device.settle()
    // The first ones are forgotten, the last one is not.
    device.push(lookup(10n), lookup(10n + 2n * 1099n))
    expect((await device.answerTo(10n + 2n * 1099n)).error).toBe(-4)
    expect(device.answers.some((answer) => answer.unique === 10n)).toBe(false)
    fileSystem.finish()
  })
})

describe('who is dying', () => {
  const status = (
    sets: Partial<Record<'SigPnd' | 'ShdPnd' | 'SigBlk' | 'SigIgn' | 'SigCgt', number[]>>,
    tracer = 0,
  ) =>
    [
      'Name:\tprogram',
      `TracerPid:\t${tracer}`,
      ...['SigPnd', 'ShdPnd', 'SigBlk', 'SigIgn', 'SigCgt'].map((field) => {
        const signals = sets[field as keyof typeof sets] ?? []
        const set = signals.reduce((all, signal) => all | (1n << BigInt(signal - 1)), 0n)
        return `${field}:\t${set.toString(16).padStart(16, '0')}`
      }),
    ].join('\n')
  const { SIGKILL, SIGTERM, SIGUSR1, SIGCHLD, SIGSTOP, SIGQUIT } = constants.signals

  it.each<[string, string, boolean]>([
    ['nothing is pending', status({}), false],
    ['SIGKILL', status({ SigPnd: [SIGKILL] }), true],
    ['SIGKILL under a debugger', status({ SigPnd: [SIGKILL] }, 5), true],
    ['SIGTERM, of the process', status({ ShdPnd: [SIGTERM] }), true],
    ['SIGQUIT, which dumps core', status({ ShdPnd: [SIGQUIT] }), true],
    ['a realtime signal', status({ SigPnd: [64] }), true],
    ['SIGTERM, handled', status({ ShdPnd: [SIGTERM], SigCgt: [SIGTERM] }), false],
    ['SIGTERM, ignored', status({ ShdPnd: [SIGTERM], SigIgn: [SIGTERM] }), false],
    ['SIGTERM, blocked', status({ ShdPnd: [SIGTERM], SigBlk: [SIGTERM] }), false],
    ['SIGTERM under a debugger', status({ ShdPnd: [SIGTERM] }, 5), false],
    ['SIGCHLD and SIGSTOP', status({ ShdPnd: [SIGCHLD, SIGSTOP] }), false],
    ['SIGTERM behind a handled signal', status({ ShdPnd: [SIGUSR1, SIGTERM], SigCgt: [SIGUSR1] }), true],
    ['something else', 'no status', false],
  ])('%s', (_what, text, dies) => {
    expect(diesNext(text)).toBe(dies)
  })

  it('not one that lives, is gone, or cannot be seen', async () => {
    expect(isDying(process.pid)).toBe(false)
    expect(isDying(0)).toBe(false)
    const child = spawn('true', { stdio: 'ignore' })
    await once(child, 'close')
    expect(child.pid !== undefined && isDying(child.pid)).toBe(false)
  })
})
