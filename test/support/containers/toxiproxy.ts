import { randomUUID } from 'node:crypto'
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { GenericContainer, Wait } from 'testcontainers'
import { Toxiproxy } from 'toxiproxy-node-client'
import { findToxiproxy, startToxiproxy, type ToxiproxyServer } from '../../integration/riak/toxiproxy.ts'
import { containerEngine, messageOf, NoContainers, needImage, removeContainer } from './engine.ts'

// The last release under this name; it has no `reset_peer`, which came with 2.2.
const DEFAULT_IMAGE = 'shopify/toxiproxy:2.1.4'
const START_TIMEOUT_MS = 30_000

/** Where the suites have Toxiproxy from. */
export interface ToxiproxyTarget {
  /** For a suite's first line. */
  readonly description: string
  start(): Promise<ToxiproxyServer>
}

/**
 * With `FERRYFS_TEST_CONTAINERS=1` a container of `FERRYFS_TOXIPROXY_IMAGE`, where it can be had; else the program on this
 * machine, if there is one.
 */
export async function toxiproxyTarget(): Promise<ToxiproxyTarget | undefined> {
  let reason = ''
  if (process.env.FERRYFS_TEST_CONTAINERS === '1') {
    try {
      // Tried once with all that belongs to it, so that no test is the first to find that it does not start.
      const tried = await startToxiproxyContainer()
      await tried[Symbol.asyncDispose]()
      return { description: `Toxiproxy in a container of ${imageName()}`, start: startToxiproxyContainer }
    } catch (error) {
      if (!(error instanceof NoContainers)) throw error
      reason = ` (FERRYFS_TEST_CONTAINERS=1, but ${messageOf(error)})`
    }
  }
  const binary = findToxiproxy()
  if (binary === undefined) return undefined
  return { description: `${binary}${reason}`, start: () => startToxiproxy(binary) }
}

function imageName(): string {
  return process.env.FERRYFS_TOXIPROXY_IMAGE || DEFAULT_IMAGE
}

/**
 * Toxiproxy in a container; FERRYFS_TOXIPROXY_IMAGE names the image. It uses the host's network, as its proxies are made
 * while it runs, on loopback ports, in front of any address that the tests themselves can reach.
 * @throws NoContainers; nothing of it is left then
 */
async function startToxiproxyContainer(): Promise<ToxiproxyServer> {
  const image = imageName()
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
      async proxy(name, upstream) {
        return client.createProxy({ name, upstream, listen: `127.0.0.1:${await freePort()}` })
      },
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
