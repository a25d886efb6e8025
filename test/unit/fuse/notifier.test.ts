import { describe, expect, it } from 'vitest'
import { KernelNotifications } from '../../../src/fuse/kernel/notifier.ts'
import { FakeDevice } from '../../support/fuse/fake-device.ts'
import { readAnswer } from '../../support/fuse/frames.ts'
import { keepingLog } from '../../support/fuse/keeping-log.ts'

function notifying() {
  const device = new FakeDevice()
  const log = keepingLog()
  return { device, log, notifier: new KernelNotifications(device, log) }
}

/** `struct fuse_notify_inval_inode_out` behind the header */
function readNode(bytes: Buffer) {
  const { length, error, unique, body } = readAnswer(bytes)
  expect({ length, error, unique }).toEqual({ length: bytes.length, error: 2, unique: 0n })
  return {
    node: body.readBigUInt64LE(0),
    offset: body.readBigInt64LE(8),
    length: body.readBigInt64LE(16),
  }
}

describe('cache invalidations', () => {
  it('a node is INVAL_INODE', async () => {
    const { device, notifier } = notifying()
    notifier.invalidateNode(2n ** 64n - 1n, 4096, 8192)
    notifier.invalidateNode(5n, -1, 0)
    await notifier.idle()
    expect(device.fromThread.map(readNode)).toEqual([
      { node: 2n ** 64n - 1n, offset: 4096n, length: 8192n },
      { node: 5n, offset: -1n, length: 0n },
    ])
  })

  it('attributes alone expire from the event loop itself, before the answer of the request', () => {
    const { device, notifier } = notifying()
    notifier.expireAttributes(7n)
    expect(device.written.map(readNode)).toEqual([{ node: 7n, offset: -1n, length: 0n }])
  })

  it('who waits for pages to go waits until the kernel has dropped them, and not for a connection that is gone', async () => {
    const { device, notifier } = notifying()
    const sent = Promise.withResolvers<number>()
    device.onThreadWrite = () => sent.promise
    let gone = 0
    const count = (): void => {
      gone += 1
    }
    void notifier.dropPages(2n, 0, 4096).then(count)
    await new Promise(setImmediate)
    void notifier.dropPages(2n, 8192, 4096).then(count)
    await new Promise(setImmediate)
    expect(gone).toBe(0)
    notifier.stop()
    await new Promise(setImmediate)
    expect(gone).toBe(1)
    sent.resolve(40)
    await notifier.idle()
    expect(gone).toBe(2)
    await notifier.dropPages(3n, 0, 0)
  })

  it.each([
    [false, 0],
    [true, 1],
  ])('a name is INVAL_ENTRY with its NUL; expire only: %s', async (expireOnly, flags) => {
    const { device, notifier } = notifying()
    notifier.expireOnly = expireOnly
    const name = Buffer.from([0xff, 0x41])
    notifier.invalidateName(9n, name)
    name.fill(0)
    await notifier.idle()
    const { length, error, unique, body } = readAnswer(device.fromThread[0] ?? Buffer.alloc(16))
    expect({ length, error, unique }).toEqual({ length: 16 + 16 + 3, error: 3, unique: 0n })
    expect(body.readBigUInt64LE(0)).toBe(9n)
    expect(body.readUInt32LE(8)).toBe(2)
    expect(body.readUInt32LE(12)).toBe(flags)
    expect(body.subarray(16)).toEqual(Buffer.from([0xff, 0x41, 0]))
  })

  it('P6: never from the event loop itself, one after the other, and not before the handler is done', async () => {
    const { device, notifier } = notifying()
    const order: string[] = []
    const gate = Promise.withResolvers<void>()
    device.onThreadWrite = async (message) => {
      order.push('begin')
      await gate.promise
      order.push('end')
      return message.length
    }
    notifier.invalidateNode(2n, 0, 0)
    notifier.invalidateNode(3n, 0, 0)
    order.push('handler done')
    gate.resolve()
    await notifier.idle()
    expect(order).toEqual(['handler done', 'begin', 'end', 'begin', 'end'])
    expect(device.written).toEqual([])
  })

  it('P6: what waits is merged by node and by name', async () => {
    const { device, notifier } = notifying()
    for (let i = 0; i < 100; i++) {
      notifier.invalidateNode(2n, 4096 * i, 4096)
      notifier.invalidateNode(3n, 0, 0)
      notifier.invalidateNode(4n, -1, 0)
      notifier.invalidateName(1n, Buffer.from('name'))
    }
    notifier.invalidateNode(5n, -1, 0)
    notifier.invalidateNode(5n, 4096, 4096)
    await notifier.idle()
    const [name, ...nodes] = device.fromThread
    expect(name && readAnswer(name).error).toBe(3)
    expect(nodes.map(readNode)).toEqual([
      { node: 2n, offset: 0n, length: 0n },
      { node: 3n, offset: 0n, length: 0n },
      { node: 4n, offset: -1n, length: 0n },
      { node: 5n, offset: 0n, length: 0n },
    ])
  })

  it('what the kernel does not know is no failure; anything else is logged', async () => {
    const { device, log, notifier } = notifying()
    device.onThreadWrite = () => Promise.resolve(-2)
    notifier.invalidateNode(2n, 0, 0)
    await notifier.idle()
    expect(log.lines).toEqual([])
    device.onThreadWrite = () => Promise.resolve(-22)
    notifier.invalidateNode(3n, 0, 0)
    await notifier.idle()
    expect(log.lines).toMatchObject([{ level: 'warn', fields: { node: '3', errno: 22 } }])
  })

  it('after the end nothing is sent', async () => {
    const { device, notifier } = notifying()
    notifier.invalidateNode(2n, 0, 0)
    notifier.stop()
    notifier.invalidateNode(3n, 0, 0)
    await notifier.idle()
    expect(device.fromThread).toEqual([])
  })
})
