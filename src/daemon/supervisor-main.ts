import { join } from 'node:path'
import { delay } from '../base/concurrency.ts'
import { reasonOf } from '../base/errors.ts'
import { LogFile } from '../observe/log-file.ts'
import { exitStatusOf } from './exit-status.ts'
import type { FromSupervisor, SupervisorOrder } from './messages.ts'
import { runSupervisor } from './run-supervisor.ts'
import { LOG_FILE } from './state-dir.ts'

const LAST_LINES_MS = 2000

// A daemon started by `mount` in the background: gets its order from that command, tells it how the start went, and is on
// its own from then on.
process.once('message', (order: SupervisorOrder) => void run(order))

async function run(order: SupervisorOrder): Promise<void> {
  process.title = `ferryfs supervisor ${order.config.target}`
  const logFile = new LogFile(join(order.config.stateDir, LOG_FILE))
  try {
    const { ended } = await runSupervisor(order, (line) => logFile.write(line))
    report({ type: 'ready' }, () => {
      if (process.connected) process.disconnect()
    })
    await ended
    await written(logFile)
    process.exit(0)
  } catch (error) {
    await written(logFile)
    const failure = { type: 'failed', message: reasonOf(error), exitStatus: exitStatusOf(error) } as const
    report(failure, () => process.exit(failure.exitStatus))
  }
}

/** A disk that hangs does not keep the process from its end. */
const written = (logFile: LogFile): Promise<unknown> => Promise.race([logFile.close(), delay(LAST_LINES_MS)])

/** The command may have been interrupted; the daemon's life does not depend on it. */
function report(message: FromSupervisor, done: () => void): void {
  if (process.connected && process.send) process.send(message, undefined, undefined, done)
  else done()
}
