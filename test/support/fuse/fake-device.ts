import { constants } from 'node:os'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { FuseDevice } from '../../../src/fuse/kernel/device.ts'
import { type ReadAnswer, readAnswer } from './frames.ts'

const { EAGAIN } = constants.errno

/** A connection without a kernel: what is pushed is read, what is written is kept. */
export class FakeDevice implements FuseDevice {
  readonly pageSize: number = 4096
  readonly written: Buffer[] = []
  readonly fromThread: Buffer[] = []
  watching = false
  /** What the next writes return instead of their length. */
  readonly writeResults: number[] = []
  /** Called for each write from a thread; its result is the write's. */
  onThreadWrite: (message: Buffer) => Promise<number> = (message) => Promise.resolve(message.length)
  readonly #queue: (Buffer | number)[] = []
  #onReadable: (() => void) | undefined
  /** Number of reads that found a request. */
  taken = 0

  /** A request, or an errno for the next read. */
  push(...items: (Buffer | number)[]): void {
    this.#queue.push(...items)
    this.#onReadable?.()
  }

  read(buffer: Buffer): number {
    const item = this.#queue.shift()
    if (item === undefined) return -EAGAIN
    if (typeof item === 'number') return -item
    this.taken += 1
    return item.copy(buffer)
  }

  write(head: Buffer, headLength: number, payload: Buffer | undefined): number {
    const message = Buffer.concat([head.subarray(0, headLength), payload ?? Buffer.alloc(0)])
    const result = this.writeResults.shift() ?? message.length
    if (result >= 0) this.written.push(message)
    return result
  }

  writeFromThread(message: Buffer): Promise<number> {
    this.fromThread.push(Buffer.from(message))
    return this.onThreadWrite(message)
  }

  watch(onReadable: () => void): void {
    this.watching = true
    this.#onReadable = onReadable
    if (this.#queue.length > 0) onReadable()
  }

  unwatch(): void {
    this.watching = false
    this.#onReadable = undefined
  }

  /** Everything that was written and is an answer. */
  get answers(): ReadAnswer[] {
    return this.written.map(readAnswer).filter((answer) => answer.unique !== 0n)
  }

  /** Pushes one request and gives its answer once there is one. */
  async ask(request: Buffer): Promise<ReadAnswer> {
    const unique = request.readBigUInt64LE(8)
    this.push(request)
    return this.answerTo(unique)
  }

  async answerTo(unique: bigint): Promise<ReadAnswer> {
    for (let turn = 0; turn < 10_000; turn++) {
      const answer = this.answers.find((candidate) => candidate.unique === unique)
      if (answer) return answer
      await nextTurn()
    }
    throw new Error(`no answer to ${unique}`)
  }

  /** Lets the event loop turn until everything pushed is read and dispatched. */
  async settle(): Promise<void> {
    do {
      await nextTurn()
      await nextTurn()
    } while (this.watching && this.#queue.length > 0)
  }
}
