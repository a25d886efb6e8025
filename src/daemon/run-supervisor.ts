import { plainJson } from '../base/text.ts'
import type { Log } from '../observe/log.ts'
import { createLog } from '../observe/log.ts'
import type { SupervisorOrder } from './messages.ts'
import { mountDriver } from './mount-drivers.ts'
import { Supervisor } from './supervisor.ts'

/**
 * Makes the calling process the supervisor of a mount: its signals are the daemon's. SIGTERM and SIGINT unmount and end,
 * a second one without waiting for store work; SIGHUP puts a new worker in place. Resolves once TARGET answers.
 * @param write takes one line of the daemon's log
 * @throws UsageError with the exit status of `mount`
 */
export async function runSupervisor(
  order: SupervisorOrder,
  write: (line: string) => void,
): Promise<{ readonly ended: Promise<void> }> {
  const { config } = order
  const log = createLog({ level: config.logLevel, name: 'supervisor', write })
  const supervisor = new Supervisor({
    ...order,
    driver: mountDriver(config),
    log,
    onOutput: (line, isRecord) => write(asRecord(line, isRecord)),
  })
  survive(log)
  const stop = (signal: NodeJS.Signals): void => {
    log.info({ signal }, 'asked to end')
    supervisor.stop().catch((error: unknown) => log.error({ err: error }, 'the end was not clean'))
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
  process.on('SIGHUP', () => {
    supervisor.handOver().catch((error: unknown) => log.error({ err: error }, 'no hand-over'))
  })
  await supervisor.start()
  return { ended: supervisor.ended }
}

/** The mount lives and dies with this process, so it does not end for an error that nothing expected. */
function survive(log: Log): void {
  process.on('uncaughtException', (error) => log.error({ err: error }, 'unexpected; the supervisor goes on'))
}

/** A record of the worker's log, or what Node or a library wrote while dying made one. */
function asRecord(line: string, isRecord: boolean): string {
  if (isRecord && line.startsWith('{"level":')) return `${line}\n`
  const record = { level: 'error', time: new Date().toISOString(), name: 'worker', msg: line }
  return `${plainJson(JSON.stringify(record))}\n`
}
