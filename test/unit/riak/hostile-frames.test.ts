import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { fetch, ping, type RiakCommand } from '../../../src/store/riak/client.ts'
import { Connection } from '../../../src/store/riak/connection.ts'

const NAME = { type: 'default', bucket: 'b', key: 'k' }
const GET = fetch(NAME, { r: 'quorum', notfoundOk: false, head: false, timeoutMs: 1000 })
const HEAD = fetch(NAME, { r: 'quorum', notfoundOk: false, head: true, timeoutMs: 1000 })

describe('P6: a server that announces more than was asked for', () => {
  let server: Server
  let sockets: Socket[]

  beforeEach(async () => {
    sockets = []
    server = createServer((socket) => sockets.push(socket.on('error', () => undefined))).listen(
      0,
      '127.0.0.1',
    )
    await once(server, 'listening')
  })

  afterEach(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })

  const open = (): Promise<Connection> =>
    Connection.open(
      { host: '127.0.0.1', port: (server.address() as AddressInfo).port },
      undefined,
      AbortSignal.timeout(5000),
    )

  /** Announces a frame of this length and sends nothing of it: whoever waited for it would do so until the deadline. */
  async function announced(command: RiakCommand<unknown>, length: number): Promise<unknown> {
    const connection = await open()
    const answer = connection.run(command, AbortSignal.timeout(5000)).catch((error: unknown) => error)
    const socket = sockets.at(-1)
    if (!socket) throw new Error('nobody has connected')
    await once(socket, 'data')
    const header = Buffer.alloc(5)
    header.writeUInt32BE(length)
    socket.write(header)
    return answer
  }

  test.each([
    ['2 GB for a value', GET, 0x7fff_ffff],
    ['200 MB for a value', GET, 200 << 20],
    ['2 GB for a head', HEAD, 0x7fff_ffff],
    ['100 MB for a head', HEAD, 100 << 20],
    ['100 MB for a ping', ping(), 100 << 20],
  ])('costs nothing but the connection: %s', async (_what, command, length) => {
    const before = process.memoryUsage().rss
    expect(String(await announced(command, length))).toContain(`a frame of ${length} bytes`)
    expect(process.memoryUsage().rss - before).toBeLessThan(32 << 20)
    const [socket] = sockets
    if (socket && !socket.destroyed) await once(socket, 'close')
  })

  test('what nobody has asked for ends the connection with its first bytes', async () => {
    const connection = await open()
    await expect.poll(() => sockets.length).toBe(1)
    sockets[0]?.write(Buffer.from([0, 0, 16, 0, 2]))
    await expect.poll(() => connection.usable).toBe(false)
  })
})
