import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { GenericContainer, Network, type StartedTestContainer, Wait } from 'testcontainers'
import { RawClient } from '../riak-sim/raw-client.ts'
import { containerEngine, messageOf, NoContainers, needImage, removeContainer, within } from './engine.ts'

// Basho's last image of its own; CLUSTER_NAME and COORDINATOR_NODE are its, and its successors' keep them.
const DEFAULT_IMAGE = 'basho/riak-kv:ubuntu-2.2.0'
const WANTED_DESCRIPTORS = 65_536
const PB_PORT = 8087
const HTTP_PORT = 8098
// An Erlang node on a busy machine of two cores, with the join behind it.
const NODE_TIMEOUT_MS = 180_000
const PING_TIMEOUT_MS = 30_000
// How long the cluster may take to tell all its nodes about a new bucket type.
const TYPE_TIMEOUT_MS = 30_000
const TYPE_PROPS = '{"props":{"allow_mult":true,"last_write_wins":false,"n_val":3}}'

export interface RiakContainers extends AsyncDisposable {
  readonly description: string
  /** `host:port` of each node, with commas. */
  readonly hosts: string
  /** The bucket type that was made, if the image has what makes one. */
  readonly type: string | undefined
}

/**
 * A cluster of containers on a network of its own; FERRYFS_RIAK_IMAGE names the image.
 * @throws NoContainers; nothing of it is left then
 */
export async function startRiakContainers({ nodes = 3, type = 'ferryfs' } = {}): Promise<RiakContainers> {
  const image = process.env.FERRYFS_RIAK_IMAGE || DEFAULT_IMAGE
  const engine = await containerEngine()
  await needImage(engine, image)
  await using undo = new AsyncDisposableStack()
  try {
    const network = await new Network().start()
    undo.defer(async () => void (await network.stop()))
    const members: StartedTestContainer[] = []
    const descriptors = await descriptorLimit()
    const id = randomUUID().slice(0, 8)
    // One after the other: two joins at a time get in each other's way in the cluster's plan.
    for (let number = 1; number <= nodes; number++) {
      const name = `riak${number}-${id}`
      // Before the start, because a container whose start fails is left behind.
      undo.defer(() => removeContainer(engine, name))
      const container = await new GenericContainer(image)
        // Name and host name are the same, and there is one network only: the image takes a node's address from a ping
        // of its host name and the coordinator's from a ping of its name, and both must give the same.
        .withName(name)
        .withHostname(name)
        .withNetwork(network)
        .withEnvironment({ CLUSTER_NAME: 'ferryfs', ...(number > 1 && { COORDINATOR_NODE: `riak1-${id}` }) })
        // Riak wants that many; and with an engine's default of a thousand million, the launcher of old Erlangs, which
        // closes every descriptor there could be, is at it for minutes.
        .withUlimits({ nofile: { soft: descriptors, hard: descriptors } })
        .withExposedPorts(PB_PORT, HTTP_PORT)
        .withWaitStrategy(joined(number).withStartupTimeout(NODE_TIMEOUT_MS))
        .start()
      members.push(container)
    }
    const addresses = members.map((member) => ({
      host: member.getHost(),
      port: member.getMappedPort(PB_PORT),
    }))
    for (const address of addresses) await answersPing(address)
    const made = members[0] === undefined ? undefined : await makeType(members[0], type)
    const started = undo.move()
    return {
      description: `Riak in ${nodes} containers of ${image}`,
      hosts: addresses.map(({ host, port }) => `${host}:${port}`).join(','),
      type: made,
      [Symbol.asyncDispose]: () => started.disposeAsync(),
    }
  } catch (error) {
    throw new NoContainers(`containers of ${image} did not start (${messageOf(error)})`, { cause: error })
  }
}

/** What Riak asks for, or what this machine grants: an engine without CAP_SYS_RESOURCE cannot grant more. */
async function descriptorLimit(): Promise<number> {
  const hard = /^Max open files +\d+ +(\d+)/m.exec(await readFile('/proc/self/limits', 'utf8'))?.[1]
  return Math.min(WANTED_DESCRIPTORS, hard === undefined ? WANTED_DESCRIPTORS : Number(hard))
}

/** Over HTTP, because a scratch image has no shell to look from inside, and an engine's proxy takes any connection. */
function joined(members: number): ReturnType<typeof Wait.forHttp> {
  return Wait.forHttp('/stats', HTTP_PORT, { abortOnContainerExit: true }).forResponsePredicate(
    (body) => ringMembers(body) >= members,
  )
}

function ringMembers(body: string): number {
  try {
    const stats: unknown = JSON.parse(body)
    if (typeof stats !== 'object' || stats === null || !('ring_members' in stats)) return 0
    return Array.isArray(stats.ring_members) ? stats.ring_members.length : 0
  } catch {
    return 0
  }
}

async function answersPing({ host, port }: { host: string; port: number }): Promise<void> {
  const end = Date.now() + PING_TIMEOUT_MS
  for (;;) {
    try {
      await using client = await RawClient.connect(port, host)
      const answer = await within(2000, 'no answer', client.request('RpbPingReq'))
      if ('name' in answer && answer.name === 'RpbPingResp') return
    } catch (error) {
      if (Date.now() > end) throw error
    }
    if (Date.now() > end) throw new Error(`no Riak answers at ${host}:${port}`)
    await delay(200)
  }
}

/** Makes and activates the type; `undefined` where the image has no `riak-admin`, as the simulator's. */
async function makeType(node: StartedTestContainer, type: string): Promise<string | undefined> {
  for (const admin of [['riak-admin'], ['riak', 'admin']]) {
    // What is there already, from an image with schemas of its own, is activated like a new one.
    if (!(await succeeds(node, [...admin, 'status'])).found) continue
    await succeeds(node, [...admin, 'bucket-type', 'create', type, TYPE_PROPS])
    const end = Date.now() + TYPE_TIMEOUT_MS
    while (!(await succeeds(node, [...admin, 'bucket-type', 'activate', type])).done) {
      if (Date.now() > end) throw new Error(`bucket type ${type} could not be activated`)
      await delay(500)
    }
    return type
  }
  return undefined
}

async function succeeds(
  node: StartedTestContainer,
  command: string[],
): Promise<{ found: boolean; done: boolean }> {
  try {
    const { exitCode } = await node.exec(command)
    // 126 and 127: the engine found nothing to run.
    return { found: exitCode !== 126 && exitCode !== 127, done: exitCode === 0 }
  } catch {
    return { found: false, done: false }
  }
}
