import { appendFileSync, closeSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { UsageError } from '../../../src/base/errors.ts'
import type { Mode } from '../../../src/base/modes.ts'
import type { MountConfig } from '../../../src/config/mount-config.ts'
import type { Connection, RunningEngine } from '../../../src/daemon/connection.ts'
import { type LongRunning, type MigrateReport, Refused } from '../../../src/daemon/engine.ts'
import { KernelSession } from '../../../src/fuse/index.ts'
import { StoreUnavailable } from '../../../src/store/errors.ts'
import { MemoryTree } from '../restore/memory-tree.ts'
import { TwoNodeFileSystem } from './two-node-file-system.ts'

/** How the engine is to behave, from the environment variable FERRYFS_FAKE, which a daemon inherits. */
export interface FakeBehaviour {
  /** Serve the mount by FUSE; else nothing is served. */
  readonly serve?: boolean
  readonly failStart?: 'usage' | 'store' | 'crash' | 'successor'
  readonly outboxLeft?: number
  readonly failures?: readonly { path: string; reason: string }[]
  readonly differences?: number
  /** A migration of so many steps, each of which waits for a line in the file `steps` of the state directory. */
  readonly migrationSteps?: number
  readonly ignoreStop?: boolean
}

function behaviour(): FakeBehaviour {
  return JSON.parse(process.env.FERRYFS_FAKE ?? '{}')
}

const KEPT = 'content of an unlinked file'

/** An engine that moves nothing, but lives as a real one does: start, take over, hold, settle, stop. */
export async function startFakeEngine(config: MountConfig, connection: Connection): Promise<RunningEngine> {
  const fake = behaviour()
  const journal = join(config.stateDir, 'journal')
  appendFileSync(journal, `start ${connection.workerStarts} ${connection.takesOver} ${config.mode ?? '-'}\n`)
  if (fake.failStart === 'usage') throw new UsageError('the store URL has an unknown parameter "x"')
  if (fake.failStart === 'store')
    throw new Error('no start', { cause: new StoreUnavailable('no node answers') })
  if (fake.failStart === 'crash') process.kill(process.pid, 'SIGSEGV')
  if (fake.failStart === 'successor' && connection.takesOver) throw new Error('a successor cannot start')
  const engine = new FakeEngine(config, connection, fake)
  await engine.begin()
  return engine
}

class FakeEngine implements RunningEngine {
  readonly #config: MountConfig
  readonly #connection: Connection
  readonly #fake: FakeBehaviour
  readonly #modeFile: string
  #session: KernelSession | undefined
  #kept = ''
  #paused = false

  constructor(config: MountConfig, connection: Connection, fake: FakeBehaviour) {
    this.#config = config
    this.#connection = connection
    this.#fake = fake
    this.#modeFile = join(config.stateDir, 'mode')
    if (config.mode) writeFileSync(this.#modeFile, config.mode)
  }

  async begin(): Promise<void> {
    await this.#keepUnlinked()
    const { fd, state } = await this.#connection.attach({ id: 'fake', replaces: [] })
    if (!this.#fake.serve || fd === undefined) return
    const session = new KernelSession({
      fd,
      fileSystem: new TwoNodeFileSystem(this.#config.source),
      log: this.#connection.log,
      state,
      onInit: (agreed) => this.#connection.saveState(agreed),
    })
    this.#session = session
    session.start()
    void session.done.then(({ reason }) => {
      if (reason !== 'stopped') this.#connection.closed()
    })
    await session.ready
  }

  /** The first worker has the supervisor hold an unlinked file, every other reads it. */
  async #keepUnlinked(): Promise<void> {
    const held = this.#connection.held.get('kept')
    if (held !== undefined) {
      this.#kept = readFileSync(held, 'utf8')
    } else {
      const path = join(this.#config.stateDir, 'unlinked')
      writeFileSync(path, KEPT)
      const fd = openSync(path, 'r+')
      await this.#connection.hold('kept', fd)
      rmSync(path)
      closeSync(fd)
    }
  }

  async status(): ReturnType<RunningEngine['status']> {
    const { source, target, stateDir, namespace, transport, sourceReadonly, store } = this.#config
    const { supervisorPid, startedAt, workerStarts } = this.#connection
    const failures = [...(this.#fake.failures ?? [])]
    return {
      pid: process.pid,
      supervisorPid,
      mode: this.#mode(),
      source,
      target,
      stateDir,
      namespace,
      transport,
      sourceReadonly,
      startedAt,
      workerStarts,
      store: { url: store, healthy: true },
      files: { total: 4, stored: 3, pending: 1, dirty: 0, failed: failures.length, drained: 0 },
      bytes: { total: 4096, stored: 3072 },
      outbox: { length: 1, oldestSeconds: 90 },
      staging: { bytes: 0, limit: this.#config.stagingLimit },
      stateDiskAnswers: true,
      reads: { legacy: 1, store: 2, staging: 0, cache: this.#kept === KEPT ? 1 : 0, overtaken: 0 },
      migration: { state: this.#paused ? 'paused' : 'idle', bytesPerSecond: 0, etaSeconds: null },
      failures,
    }
  }

  #mode(): Mode {
    try {
      return readFileSync(this.#modeFile, 'utf8') as Mode
    } catch {
      return 'mirror'
    }
  }

  async setMode(mode: Mode): Promise<void> {
    if (mode === 'store-only') throw new Refused('1 file is not in the store yet; "ferryfs migrate" moves it')
    writeFileSync(this.#modeFile, mode)
  }

  async migrate(_options: object, run: LongRunning): Promise<MigrateReport> {
    if (this.#mode() === 'observe') throw new Refused('in mode observe nothing is copied')
    const steps = this.#fake.migrationSteps ?? 2
    for (let step = 1; step <= steps; step += 1) {
      run.onProgress({
        phase: 'copying',
        files: step,
        filesTotal: steps,
        bytes: step * 1024,
        bytesTotal: steps * 1024,
        bytesPerSecond: 1024,
        etaSeconds: steps - step,
      })
      if (this.#fake.migrationSteps !== undefined) await this.#stepAllowed(step, run.signal)
    }
    const failures = [...(this.#fake.failures ?? [])]
    return { files: steps, bytes: steps * 1024, remaining: failures.length, changed: 0, failures }
  }

  async #stepAllowed(step: number, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (readFileSync(join(this.#config.stateDir, 'steps'), 'utf8').split('\n').length > step) return
      } catch {
        // No step is allowed yet.
      }
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  pauseMigration(): void {
    this.#paused = true
  }

  resumeMigration(): void {
    this.#paused = false
  }

  sweep(): ReturnType<RunningEngine['sweep']> {
    return Promise.resolve({ objects: 0, found: 0, swept: 0, strays: [] })
  }

  async verify(): ReturnType<RunningEngine['verify']> {
    const differences = Array.from({ length: this.#fake.differences ?? 0 }, (_, index) => ({
      path: `file-${index}`,
      kind: 'corrupt' as const,
      detail: 'its checksum does not hold',
    }))
    return { files: 3, bytes: 3072, differences, differenceCount: differences.length }
  }

  tree(): MemoryTree {
    const tree = new MemoryTree()
    for (let n = 0; n < 3; n += 1) tree.put(`file-${n}`, tree.regular(Buffer.alloc(1024, n + 1)))
    for (const { path, reason } of this.#fake.failures ?? []) tree.put(path.replaceAll('/', '-'), reason)
    return tree
  }

  async metrics(): Promise<string> {
    return `fake_worker_starts ${this.#connection.workerStarts}\n`
  }

  async settle(timeoutMs: number): Promise<{ readonly outboxLeft: number }> {
    appendFileSync(join(this.#config.stateDir, 'journal'), `settle ${timeoutMs}\n`)
    return { outboxLeft: this.#fake.outboxLeft ?? 0 }
  }

  async stop(): Promise<void> {
    if (this.#fake.ignoreStop) await new Promise(() => undefined)
    await this.#session?.stop()
    appendFileSync(join(this.#config.stateDir, 'journal'), 'stop\n')
  }
}
