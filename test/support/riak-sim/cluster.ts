import { createServer as createHttpServer, type Server as HttpServer } from 'node:http'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import type { BucketProps, TypeProps } from './bucket-props.ts'
import { manualClock, realClock } from './clock.ts'
import { Connection, type ConnectionHost, type Security } from './connection.ts'
import { Coordinator } from './coordinator.ts'
import type { Fault } from './faults.ts'
import { type HttpHost, handleHttp } from './http.ts'
import { seededRandom } from './random.ts'
import { bucketKey } from './ring.ts'
import { ClusterState } from './state.ts'
import type { DeleteMode } from './vnode.ts'

export interface ClusterOptions {
  /** How many nodes; 3 without it. */
  readonly nodes?: number
  /** Everything of chance comes from it: who answers first, whom a fault hits. 1 without it. */
  readonly seed?: number
  readonly ringSize?: number
  /** 3000 (milliseconds) without it, as Riak has it. */
  readonly deleteMode?: DeleteMode
  /** Active bucket types beside `default`, with what differs from Riak's own defaults for types. */
  readonly types?: Readonly<Record<string, TypeProps>>
  /**
   * How long the properties of an untyped bucket take from the node that was told to each other, in milliseconds; without it as
   * on a real cluster of three.
   */
  readonly gossipMs?: readonly [least: number, most: number]
  /** With `manual` only `advance` moves time: tombstones go, delayed answers come. */
  readonly clock?: 'real' | 'manual'
  readonly host?: string
  /** Ports of the nodes; any free ones without it. */
  readonly ports?: readonly number[]
  /** Serve HTTP too: on these ports, or with `[]` on any free ones. */
  readonly httpPorts?: readonly number[]
  readonly security?: Security
  /** What the nodes say their release is; that of the recordings without it. */
  readonly serverVersion?: string
}

export interface SimNode {
  /** As Riak calls it, e.g. `riak1@127.0.0.1`. */
  readonly name: string
  readonly host: string
  readonly port: number
  readonly httpPort: number | undefined
  /** Requests since the start, by message name. */
  readonly requests: ReadonlyMap<string, number>
  readonly connections: number
}

/** Types that every simulated cluster has: those of the recordings, and one for ferryfs. */
const TYPES: Readonly<Record<string, TypeProps>> = {
  riakfuse: {},
  sets: { datatype: 'set' },
  ferryfs: {},
}

/** From 18 ms to 7.5 s after the set, as measured. */
const GOSSIP_MS = [18, 7500] as const

class Node implements ConnectionHost, HttpHost, SimNode {
  readonly name: string
  readonly host: string
  readonly state: ClusterState
  readonly coordinator: Coordinator
  readonly security: Security | undefined
  readonly serverVersion: string
  readonly requests = new Map<string, number>()
  readonly #cluster: Cluster
  readonly #connections = new Map<Socket, Connection>()
  #server: Server | undefined
  #http: HttpServer | undefined
  port: number
  httpPort: number | undefined

  constructor(cluster: Cluster, name: string, options: ClusterOptions, index: number) {
    this.#cluster = cluster
    this.name = name
    this.state = cluster.state
    this.host = options.host ?? '127.0.0.1'
    this.port = options.ports?.[index] ?? 0
    this.httpPort = options.httpPorts === undefined ? undefined : (options.httpPorts[index] ?? 0)
    this.security = options.security
    this.serverVersion = options.serverVersion ?? '3.2.3'
    this.coordinator = new Coordinator(cluster.state, name)
  }

  get node(): string {
    return this.name
  }

  get connections(): number {
    return this.#connections.size
  }

  received(request: string): void {
    this.requests.set(request, (this.requests.get(request) ?? 0) + 1)
  }

  control(command: string, parameters: URLSearchParams): Promise<string | undefined> {
    return this.#cluster.control(command, parameters)
  }

  async listen(): Promise<void> {
    const server = createServer((socket) => {
      this.#connections.set(socket, new Connection(this, socket))
      socket.on('close', () => this.#connections.delete(socket))
    })
    this.port = await listening(server, this.port, this.host)
    this.#server = server
    if (this.httpPort === undefined) return
    const http = createHttpServer((request, response) => handleHttp(this, request, response))
    this.httpPort = await listening(http, this.httpPort, this.host)
    this.#http = http
  }

  /** `reset`: as a killed process leaves its connections; otherwise they are closed in order. */
  async silence(reset: boolean): Promise<void> {
    const servers = [this.#server, this.#http].filter((server) => server !== undefined)
    const closed = servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())))
    this.#http?.closeAllConnections()
    for (const [socket, connection] of this.#connections) {
      if (reset) connection.reset()
      else socket.destroy()
    }
    this.#server = undefined
    this.#http = undefined
    await Promise.all(closed)
  }

  resume(): void {
    for (const connection of this.#connections.values()) connection.resume()
  }
}

function listening(server: Server, port: number, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      const address = server.address()
      resolve(isAddress(address) ? address.port : port)
    })
  })
}

function isAddress(address: AddressInfo | string | null): address is AddressInfo {
  return typeof address === 'object' && address !== null
}

/** A cluster of simulated Riak nodes on loopback ports. */
export class Cluster implements AsyncDisposable {
  readonly state: ClusterState
  readonly #nodes: readonly Node[]
  #handoffTimer: NodeJS.Timeout | undefined

  constructor(options: ClusterOptions) {
    const { nodes = 3 } = options
    const names = Array.from({ length: nodes }, (_, index) => `riak${nodes === 1 ? '' : index + 1}@127.0.0.1`)
    this.state = new ClusterState({
      nodes: names,
      ringSize: options.ringSize ?? 16,
      deleteMode: options.deleteMode ?? 3000,
      types: { ...TYPES, ...options.types },
      clock: options.clock === 'manual' ? manualClock() : realClock(),
      random: seededRandom(options.seed ?? 1),
      gossipMs: options.gossipMs ?? GOSSIP_MS,
    })
    this.#nodes = names.map((name, index) => new Node(this, name, options, index))
  }

  async listen(): Promise<void> {
    for (const node of this.#nodes) await node.listen()
  }

  get nodes(): readonly SimNode[] {
    return this.#nodes
  }

  /** `host:port` of every node, as in a `riak://` URL. */
  get hosts(): string {
    return this.#nodes.map(({ host, port }) => `${host}:${port}`).join(',')
  }

  #node(number: number): Node {
    const node = this.#nodes[number - 1]
    if (node === undefined) throw new Error(`no node ${number}`)
    return node
  }

  /** `kill -9`: connections are reset, the peers notice at once, what is on disk stays. Nodes count from 1. */
  async kill(number: number): Promise<void> {
    this.state.setState(this.#node(number).name, 'down')
    await this.#node(number).silence(true)
  }

  /** `riak stop` */
  async stop(number: number): Promise<void> {
    this.state.setState(this.#node(number).name, 'down')
    await this.#node(number).silence(false)
  }

  /**
   * Up again on the same port, with what it held; what others keep for it comes with `handoff`. For the time given it answers
   * pings and serves nothing, as a real one does for about ten seconds.
   */
  async start(number: number, warmUpMs = 0): Promise<void> {
    const node = this.#node(number)
    const { name } = node
    const before = this.state.stateOf(name)
    if (before === 'down') await node.listen()
    this.state.setState(name, before === 'down' && warmUpMs > 0 ? 'starting' : 'up')
    if (this.state.stateOf(name) === 'starting') {
      this.state.clock.after(warmUpMs, () => {
        if (this.state.stateOf(name) === 'starting') this.state.setState(name, 'up')
      })
    }
    node.resume()
  }

  /** The node takes connections and requests and answers none, to clients and peers alike; `start` ends it. */
  pause(number: number): void {
    this.state.setState(this.#node(number).name, 'paused')
  }

  /** Nodes see only those of their own group; clients see all. */
  partition(...groups: readonly (readonly number[])[]): void {
    this.state.split(groups.map((group) => group.map((number) => this.#node(number).name)))
  }

  /** The network is whole again. */
  heal(): void {
    this.state.join()
  }

  /** Fallbacks give the owners that are back what is theirs. Returns the number of objects. */
  handoff(): number {
    return this.state.handoff()
  }

  /** Does `handoff` again and again, as a real cluster would. */
  handoffEvery(milliseconds: number): void {
    this.#handoffTimer = setInterval(() => this.handoff(), milliseconds).unref()
  }

  /** Puts a fault in force; the function returned ends it. */
  inject(fault: Fault): () => void {
    return this.state.faults.inject(fault)
  }

  /** What a node has heard of an untyped bucket. */
  propsOf(number: number, bucket: string): BucketProps | undefined {
    const { name } = this.#node(number)
    return this.state.propsOf({ type: 'default', name: Buffer.from(bucket) }, name)
  }

  /** Only with `clock: 'manual'`. */
  advance(milliseconds: number): void {
    this.state.clock.advance(milliseconds)
  }

  /** What each replica holds: `node/partition` → values of its siblings, a tombstone as `undefined`. */
  replicas(type: string, bucket: string, key: string): Map<string, (Buffer | undefined)[]> {
    return this.state.replicas(bucketKey({ type, name: Buffer.from(bucket) }, Buffer.from(key)))
  }

  /** `bucket/key` of everything in the buckets of a namespace → what each replica holds, as `replicas` has it. */
  everything(namespace: string): Map<string, Map<string, (Buffer | undefined)[]>> {
    const targets = this.state.allKeys().map((target) => ({ target, name: target.bucket.name.toString() }))
    const own = targets.filter(({ name }) => name === namespace || name.startsWith(`${namespace}.`))
    return new Map(
      own.map(({ target, name }) => [`${name}/${target.key.toString()}`, this.state.replicas(target)]),
    )
  }

  /** Flips a bit of the value on every replica, or on so many. */
  damage(type: string, bucket: string, key: string, copies?: number): void {
    this.state.damage(bucketKey({ type, name: Buffer.from(bucket) }, Buffer.from(key)), copies)
  }

  /** Requests of a kind that all nodes together have had. */
  requestCount(request: string): number {
    return this.#nodes.reduce((sum, node) => sum + (node.requests.get(request) ?? 0), 0)
  }

  /** The commands of `POST /sim/…`. @throws Error for parameters that do not fit. */
  async control(command: string, parameters: URLSearchParams): Promise<string | undefined> {
    const number = Number(parameters.get('node') ?? Number.NaN)
    switch (command) {
      case 'kill':
        await this.kill(number)
        break
      case 'stop':
        await this.stop(number)
        break
      case 'start':
        await this.start(number, Number(parameters.get('milliseconds') ?? 0))
        break
      case 'pause':
        this.pause(number)
        break
      case 'partition':
        this.partition(...parameters.getAll('group').map((group) => group.split(',').map(Number)))
        break
      case 'heal':
        this.heal()
        break
      case 'handoff':
        return `${this.handoff()}\n`
      case 'fault':
        this.inject(faultOf(parameters))
        break
      case 'no-faults':
        this.state.faults.clear()
        break
      default:
        return undefined
    }
    return 'ok\n'
  }

  async close(): Promise<void> {
    clearInterval(this.#handoffTimer)
    this.state.clock.stop()
    await Promise.all(this.#nodes.map((node) => node.silence(true)))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

const KINDS: readonly Fault['kind'][] = [
  'drop-ack',
  'no-answer',
  'delay',
  'reset',
  'half-frame',
  'garbage',
  'noise',
  'foreign',
  'error',
  'twice',
  'lose-write',
  'corrupt',
]

function faultOf(parameters: URLSearchParams): Fault {
  const kind = KINDS.find((one) => one === parameters.get('kind'))
  if (kind === undefined) throw new Error(`kind is one of ${KINDS.join(', ')}`)
  const text = (name: 'node' | 'key' | 'error'): { [key in typeof name]?: string } => {
    const value = parameters.get(name)
    return value === null ? {} : { [name]: value }
  }
  const number = (name: 'probability' | 'times' | 'milliseconds'): { [key in typeof name]?: number } => {
    const value = parameters.get(name)
    return value === null ? {} : { [name]: Number(value) }
  }
  const requests = parameters.getAll('request')
  return {
    kind,
    ...text('node'),
    ...text('key'),
    ...text('error'),
    ...number('probability'),
    ...number('times'),
    ...number('milliseconds'),
    ...(requests.length > 0 && { requests }),
  }
}

/** Starts a cluster; `await using cluster = await startCluster({ nodes: 3, seed: 7 })` ends it, too. */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const cluster = new Cluster(options)
  await cluster.listen()
  return cluster
}
