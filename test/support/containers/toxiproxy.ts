import { randomUUID } from 'node:crypto'
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { GenericContainer, Wait } from 'testcontainers'
import { Toxiproxy, type ToxicType } from 'toxiproxy-node-client'
import type { ToxiproxyServer } from '../../integration/riak/toxiproxy.ts'
import { containerEngine, messageOf, NoContainers, needImage, removeContainer } from './engine.ts'

// The last release under this name; it has no `reset_peer`, which came with 2.2.
const DEFAULT_IMAGE = 'shopify/toxiproxy:2.1.4'
const START_TIMEOUT_MS = 30_000

export interface ToxiproxyContainer extends ToxiproxyServer {
  readonly description: string
  /** Whether this release has the toxic; the default image lacks those that came after it. */
  knows(type: ToxicType): Promise<boolean>
}

/**
 * Toxiproxy in a container; FERRYFS_TOXIPROXY_IMAGE names the image. It uses the host's network, as its proxies are made
 * while it runs, on loopback ports, in front of any address that the tests themselves can reach.
 * @throws NoContainers; nothing of it is left then
 */
export async function startToxiproxyContainer(): Promise<ToxiproxyContainer> {
  const image = process.env.FERRYFS_TOXIPROXY_IMAGE || DEFAULT_IMAGE
  const engine = await containerEngine()
  await needImage(engine, image)
  await using undo = new AsyncDisposableStack()
  try {
    const port = await freePort()
    const container = `toxiproxy-${randomUUID().slice(0, 8)}`
    // Before the start, because a container whose start fails is left behind.
    undo.defer(() => removeContainer(engine, container))
    await new GenericContainer(image)
      .withName(container)
      .withNetworkMode('host')
      .withCommand(['-host=127.0.0.1', `-port=${port}`, '-seed=1'])
      .withWaitStrategy(Wait.forLogMessage(/starting/i))
      .withStartupTimeout(START_TIMEOUT_MS)
      .start()
    const client = new Toxiproxy(`http://127.0.0.1:${port}`)
    await answers(client)
    const started = undo.move()
    return {
      description: `Toxiproxy in a container of ${image}`,
      async proxy(name, upstream) {
        return client.createProxy({ name, upstream, listen: `127.0.0.1:${await freePort()}` })
      },
      knows: (type) => knows(client, type),
      [Symbol.asyncDispose]: () => started.disposeAsync(),
    }
  } catch (error) {
    throw new NoContainers(`a container of ${image} did not start (${messageOf(error)})`, { cause: error })
  }
}

/** A container's own "started" says nothing of whether its port is one of this machine's. */
async function answers(client: Toxiproxy): Promise<void> {
  const end = Date.now() + START_TIMEOUT_MS
  for (;;) {
    try {
      await client.getVersion()
      return
    } catch (error) {
      if (Date.now() > end) throw error
      await delay(50)
    }
  }
}

async function knows(client: Toxiproxy, type: ToxicType): Promise<boolean> {
  // Nobody connects to it, so it needs no upstream that is there.
  const proxy = await client.createProxy({
    name: `knows-${type}`,
    upstream: '127.0.0.1:1',
    listen: `127.0.0.1:${await freePort()}`,
  })
  try {
    await proxy.addToxic({ name: 'tried', type, stream: 'downstream', toxicity: 1, attributes: {} })
    return true
  } catch {
    return false
  } finally {
    await proxy.remove()
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      const port = typeof address === 'object' && address !== null ? address.port : 0
      server.close(() => resolve(port))
    })
  })
}
