import { writeSync } from 'node:fs'
import type { Logger } from 'pino'
import { reasonOf } from '../base/errors.ts'
import type { FileLock } from '../base/file-lock.ts'
import { controlSocket } from '../config/paths.ts'
import { createLog } from '../observe/log.ts'
import { serveMetrics } from '../observe/metrics.ts'
import type { RunningEngine, StartEngine } from './connection.ts'
import { carryOut } from './control-commands.ts'
import { type ControlHandler, ControlServer } from './control-server.ts'
import { exitStatusOf } from './exit-status.ts'
import { type FromWorker, PROTOCOL, type StartMessage, type ToWorker } from './messages.ts'
import { dieWithParent } from './parent-death.ts'
import { acquireWorkerLock } from './state-dir.ts'
import { WorkerConnection } from './worker-connection.ts'

// How long a worker of a killed daemon may take to be gone from the state directory.
const PREDECESSOR_MS = 10_000

/**
 * The life of a worker process: loads, waits to be told what to serve, serves, and ends when its supervisor says so or
 * is gone. An entry point calls it with the engine that it composes.
 */
export function serveWorker(startEngine: StartEngine): void {
  dieWithParent()
  // Without a supervisor nobody holds the state directory, and the mount is replaced at any moment: not one more answer.
  process.once('disconnect', dieNow)
  // A terminal sends these to the whole process group, a service manager to all processes; the supervisor decides.
  process.on('SIGINT', () => undefined)
  process.on('SIGHUP', () => undefined)
  process.on('SIGTERM', () => send({ type: 'replace' }))
  const log = createLog({ level: 'info', name: 'worker', write: writeLine })
  process.on('uncaughtException', (error) => {
    log.error({ err: error }, 'the worker fails on an error that nothing expected')
    dieNow()
  })
  const worker = new Worker(startEngine, log)
  process.on('message', (message: ToWorker) => worker.receive(message))
  send({ type: 'loaded', protocol: PROTOCOL })
}

/** The supervisor keeps the log; a line that it does not take is lost. */
function writeLine(line: string): void {
  try {
    writeSync(1, line)
  } catch {
    // The supervisor is gone, and so is this process in a moment.
  }
}

/** Ends the process with nothing more done; every promise to applications holds across this. */
function dieNow(): void {
  process.kill(process.pid, 'SIGKILL')
}

function send(message: FromWorker): void {
  if (process.connected) process.send?.(message)
}

/** Says its last word to the supervisor and ends. */
function end(message: FromWorker, status: number): void {
  process.off('disconnect', dieNow)
  if (!process.connected || !process.send) process.exit(status)
  process.send(message, undefined, undefined, () => process.exit(status))
}

class Worker {
  readonly #startEngine: StartEngine
  readonly #log: Logger
  readonly #engine = Promise.withResolvers<RunningEngine>()
  #connection: WorkerConnection | undefined
  #control: ControlServer | undefined
  // Kept referenced: the lock lives as long as its object.
  #lock: FileLock | undefined
  #unmounting = false
  #opTimeout = 0
  #ending = false

  constructor(startEngine: StartEngine, log: Logger) {
    this.#startEngine = startEngine
    this.#log = log
    // A start that fails is reported by #start; commands that wait for the engine learn it too.
    this.#engine.promise.catch(() => undefined)
  }

  receive(message: ToWorker): void {
    if (message.type === 'start') void this.#start(message)
    else if (message.type === 'stop') void this.#end(message.settleMs)
    else if (message.type === 'ping') send({ type: 'pong' })
    else this.#connection?.receive(message)
  }

  async #start(start: StartMessage): Promise<void> {
    const { config } = start
    process.title = `ferryfs worker ${config.target}`
    this.#log.level = config.logLevel
    this.#opTimeout = config.opTimeout
    try {
      this.#lock = acquireWorkerLock(config.stateDir, PREDECESSOR_MS)
      const handler: ControlHandler = {
        carryOut: async (request, run) => {
          const engine = await this.#engine.promise
          if (request.command === 'unmount') return this.#unmount(engine, request.force)
          return carryOut(engine, request, run, this.#log)
        },
        tree: async () => (await this.#engine.promise).tree(),
      }
      this.#control = await ControlServer.listen(controlSocket(config.stateDir, start.runDir), handler)
      // The kernel applies each caller's umask, or hands it over; ours must not come on top.
      process.umask(0)
      const connection = new WorkerConnection(start, this.#log, send)
      this.#connection = connection
      void connection.whenClosed.then(() => {
        if (!this.#unmounting) void this.#end(config.opTimeout)
      })
      const engine = await this.#startEngine(config, connection)
      this.#engine.resolve(engine)
      await this.#listenForMetrics(engine, start)
      this.#log.info({ workerStarts: start.workerStarts }, 'serving')
      send({ type: 'ready' })
    } catch (error) {
      this.#engine.reject(error)
      this.#log.error({ err: error }, 'the worker cannot start')
      end({ type: 'failed', message: reasonOf(error), exitStatus: exitStatusOf(error) }, 1)
    }
  }

  /** @throws the listener's error, at the first start only: later a taken port must not cost the mount */
  async #listenForMetrics(engine: RunningEngine, { config, takesOver }: StartMessage): Promise<void> {
    const address = config.metricsListen
    if (!address) return
    try {
      const { port } = await serveMetrics(address, () => engine.metrics())
      this.#log.info({ metricsPort: port }, 'metrics are served')
    } catch (error) {
      if (!takesOver) {
        throw new Error(`metrics cannot be served at ${address.host}:${address.port}`, { cause: error })
      }
      this.#log.error({ err: error }, 'metrics are not served')
    }
  }

  async #unmount(engine: RunningEngine, force: boolean): Promise<{ readonly outboxLeft: number }> {
    this.#unmounting = true
    try {
      // First, because it is what may be turned down; and afterwards no more work comes.
      await this.#connection?.unmount(force)
    } catch (error) {
      this.#unmounting = false
      throw error
    }
    try {
      return await engine.settle(force ? 0 : this.#opTimeout)
    } finally {
      // Nothing is mounted any more, so it ends, whatever the work came to. The answer goes out before that closes the socket.
      setImmediate(() => void this.#end(undefined))
    }
  }

  /** Finishes and ends the process; with `settleMs`, store work may first go on for that long. */
  async #end(settleMs: number | undefined): Promise<void> {
    if (this.#ending) return
    this.#ending = true
    try {
      const engine = await this.#engine.promise
      if (settleMs !== undefined) {
        const { outboxLeft } = await engine.settle(settleMs)
        if (outboxLeft > 0) this.#log.warn({ outboxLeft }, 'work for the store is left to the next mount')
      }
      await engine.stop()
      await this.#control?.close()
      this.#lock?.release()
    } catch (error) {
      this.#log.error({ err: error }, 'the end was not clean; the next start repairs it')
    }
    end({ type: 'finished' }, 0)
  }
}
