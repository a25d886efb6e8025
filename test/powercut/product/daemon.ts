import { closeSync, mkdirSync, readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import type { Mode } from '../../../src/base/modes.ts'
import type { MountConfig } from '../../../src/config/mount-config.ts'
import { engineWith } from '../../../src/daemon/compose.ts'
import type { Connection, RunningEngine } from '../../../src/daemon/connection.ts'
import { HeldDescriptors } from '../../../src/daemon/held-descriptors.ts'
import type { Answer, FileSystem, RequestContext } from '../../../src/fuse/operations.ts'
import type { Transport, TransportEnd } from '../../../src/fuse/transport.ts'
import { createLog } from '../../../src/observe/log.ts'
import type { KeyValueStore } from '../../../src/store/contract.ts'
import { EmbeddedStore } from '../../../src/store/embedded/store.ts'
import type { Variant } from '../app/script.ts'
import { wait } from '../machine/time.ts'
import { NotedStore, type StoreChange } from '../recording/logged-store.ts'

/** The directories of one machine: what the daemon keeps, what the store keeps, the legacy volume. */
export const VOLUMES = ['state', 'store', 'volume'] as const
export type VolumeName = (typeof VOLUMES)[number]

/** Id of a file and of a directory that no catalog has. */
export const STRAY_ID = 'fffffff-1'
const STRAY_CHUNKS = [0, 1].map((index) => `${STRAY_ID}/${index}-${'ab'.repeat(32)}`)

export interface DaemonOptions {
  /** Holds the three volumes. */
  readonly root: string
  /** Undefined: the mode that the state directory records. */
  readonly mode: Mode | undefined
  readonly inlineLimit: number
  /** A store on other machines; undefined: the embedded one in the volume `store`. */
  readonly store: KeyValueStore | undefined
  /** Hears of every change that the embedded store has acknowledged. */
  readonly onChange?: (change: StoreChange) => void
  readonly variant?: Variant
  /** The worker that follows a killed one under the same mount. */
  readonly takesOver?: boolean | undefined
}

export interface Logged {
  readonly level: string
  readonly msg: string
  readonly err?: { readonly message?: string }
}

let nextUnique = 2n

/** The product's worker, whole, with the harness in the place of supervisor and kernel. */
export class Daemon {
  readonly engine: RunningEngine
  readonly fileSystem: FileSystem
  readonly logged: readonly Logged[]
  /** The last request, for whoever reads of its failure. */
  asked = 'nothing'
  readonly #options: DaemonOptions
  readonly #held: HeldDescriptors
  readonly #store: KeyValueStore

  private constructor(
    options: DaemonOptions,
    parts: {
      engine: RunningEngine
      fileSystem: FileSystem
      logged: readonly Logged[]
      held: HeldDescriptors
      store: KeyValueStore
    },
  ) {
    this.#store = parts.store
    this.#options = options
    this.engine = parts.engine
    this.fileSystem = parts.fileSystem
    this.logged = parts.logged
    this.#held = parts.held
  }

  /** As `ferryfs mount` after a boot. @throws what the start throws */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const held = new HeldDescriptors()
    const logged: Logged[] = []
    const transport = new NoKernel()
    let fileSystem: FileSystem | undefined
    let store: KeyValueStore | undefined
    const start = engineWith({
      openTransport: async (_config, _connection, _ownership, serving) => {
        fileSystem = serving.fileSystem
        return transport
      },
      openStore: async (url, given) => {
        const own =
          options.store ?? (await EmbeddedStore.open(join(options.root, 'store', 'ns'), { ...given, url }))
        store = options.onChange && !options.store ? new NotedStore(own, options.onChange) : own
        return store
      },
    })
    mkdirSync(join(options.root, 'state'), { recursive: true, mode: 0o700 })
    // What the machine remembers of its mounts lies on the same disk.
    process.env.FERRYFS_STATE_ROOT = join(options.root, 'state', 'machine')
    try {
      const engine = await wait(
        start(configOf(options), connectionOf(held, logged, options.takesOver ?? false)),
        'the start',
      )
      if (!fileSystem || !store) throw new Error('the engine opened no transport')
      return new Daemon(options, { engine, fileSystem, logged, held, store })
    } catch (error) {
      closeLeftOpen(options.root)
      throw error
    }
  }

  /** The store gets objects that no catalog names, as a catalog that went back leaves them. */
  async leaveStrays(): Promise<void> {
    const store = this.#store
    const version = { epoch: 1, version: 1 }
    const bytes = Buffer.from('nobody knows me')
    const metadata = {}
    const contentType = 'application/octet-stream'
    const other = { value: bytes, metadata, contentType }
    for (const key of STRAY_CHUNKS)
      await store.put('chunks', key, { ...other, version: { epoch: 0, version: 0 } })
    await store.put('dirs', STRAY_ID, { ...other, version })
  }

  /** One request and its answer, as a kernel sends it. @throws FsError of the operation */
  async perform<T>(
    what: string,
    operation: (fileSystem: FileSystem, request: RequestContext) => Answer<T>,
  ): Promise<T> {
    const request = {
      uid: 0,
      gid: 0,
      umask: 0o022,
      pid: 1,
      unique: (nextUnique += 2n),
      resent: false,
      signal: new AbortController().signal,
    }
    this.asked = what
    try {
      return await wait(operation(this.fileSystem, request), what)
    } finally {
      this.fileSystem.answered?.(request.unique)
    }
  }

  async stop(): Promise<void> {
    await wait(
      this.engine.stop().catch(() => undefined),
      'the stop',
    )
    this.#held.dropAll()
    closeLeftOpen(this.#options.root)
  }
}

class NoKernel implements Transport {
  readonly ready = Promise.resolve(undefined)
  readonly #done = Promise.withResolvers<TransportEnd>()

  get done(): Promise<TransportEnd> {
    return this.#done.promise
  }

  start(): void {}

  stop(): Promise<void> {
    this.#done.resolve({ reason: 'stopped' })
    return Promise.resolve()
  }
}

function configOf({ root, mode, inlineLimit, variant }: DaemonOptions): MountConfig {
  return {
    source: join(root, 'volume'),
    target: join(root, 'target'),
    stateDir: join(root, 'state'),
    store: 'embedded:',
    mode,
    namespace: 'ns',
    options: undefined,
    transport: 'kernel',
    sourceReadonly: variant === 'source-readonly',
    ack: variant === 'ack-store' ? 'store' : 'local',
    opTimeout: 30_000,
    stagingLimit: 1024 * 1024 * 1024,
    cacheLimit: 16 * 1024 * 1024,
    memoryCacheLimit: 0,
    inlineLimit,
    concurrency: 4,
    metricsListen: undefined,
    logLevel: 'info',
  }
}

function connectionOf(held: HeldDescriptors, logged: Logged[], takesOver: boolean): Connection {
  return {
    supervisorPid: process.pid,
    workerStarts: takesOver ? 2 : 1,
    startedAt: new Date(0).toISOString(),
    takesOver,
    log: createLog({
      level: 'info',
      name: 'power-cut',
      write: (line) => logged.push(JSON.parse(line) as Logged),
    }),
    held: new Map(Object.entries(held.list())),
    notes: undefined,
    attach: () => Promise.reject(new Error('there is no kernel')),
    useSource: () => undefined,
    saveState: () => undefined,
    closed: () => undefined,
    hold: (id, fd) => held.hold(id, `/proc/self/fd/${fd}`),
    drop: (id) => held.drop(id),
  }
}

/** Descriptors that only the end of a process would have closed. */
function closeLeftOpen(root: string): void {
  for (const descriptor of readdirSync('/proc/self/fd')) {
    let path: string
    try {
      path = readlinkSync(`/proc/self/fd/${descriptor}`)
    } catch {
      continue
    }
    if (path.startsWith(`${root}/volume/`) || path.startsWith(`${root}/state/staging/`)) {
      closeSync(Number(descriptor))
    }
  }
}
