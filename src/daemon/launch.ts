import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { UsageError } from '../base/errors.ts'
import type { FromSupervisor, SupervisorOrder } from './messages.ts'
import { entryPoint } from '../base/entry-point.ts'
import { NODE_FLAGS } from './process.ts'
import { claimStateDir, LOG_FILE } from './state-dir.ts'

/**
 * Starts a supervisor that outlives this process, in a session of its own.
 * @returns its process id, once TARGET answers
 * @throws UsageError with the exit status of `mount`
 */
export async function launchDaemon(order: SupervisorOrder): Promise<number> {
  const { stateDir } = order.config
  // The daemon claims it again, for as long as it lives; before the log is opened it has to be private.
  claimStateDir(stateDir, order.config).release()
  const logPath = join(stateDir, LOG_FILE)
  // What the supervisor logs goes through its own file of bounded size; here lands only what Node says when it dies.
  const log = openSync(logPath, 'a', 0o600)
  const child = spawn(process.execPath, [...NODE_FLAGS, entryPoint('daemon/supervisor-main')], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', log, log, 'ipc'],
  })
  closeSync(log)
  const interrupt = (): void => {
    child.kill('SIGTERM')
  }
  process.once('SIGINT', interrupt)
  process.once('SIGTERM', interrupt)
  try {
    const outcome = await new Promise<FromSupervisor>((resolve) => {
      const ended = (how: string): void =>
        resolve({
          type: 'failed',
          message: `the daemon ended at its start (${how}); see ${logPath}`,
          exitStatus: 1,
        })
      child.once('message', (message: FromSupervisor) => resolve(message))
      child.once('error', (error) => ended(error.message))
      child.once('exit', (code, signal) => ended(signal ?? `exit status ${code}`))
      child.send(order, () => undefined)
    })
    if (outcome.type === 'failed') throw new UsageError(outcome.message, outcome.exitStatus)
    return child.pid ?? 0
  } finally {
    process.off('SIGINT', interrupt)
    process.off('SIGTERM', interrupt)
    if (child.connected) child.disconnect()
    child.unref()
  }
}
