import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import { LONG_TURN_MS, type Turn } from '../base/turns.ts'
import type { Log } from '../observe/log.ts'
import type { StoreMetrics } from '../store/instrumented.ts'
import type { Built } from './build.ts'

/** The worker's own figures, read when somebody asks. */
export function registerGauges(registry: Registry, { context, counters, mover }: Built): void {
  const gauge = (name: string, help: string, read: () => number): void => {
    new Gauge({
      name: `ferryfs_${name}`,
      help,
      registers: [registry],
      collect() {
        this.set(read())
      },
    })
  }
  const { catalog, staging } = context
  gauge('files', 'Files in the overlay that the catalog knows', () => catalog.lists.totals().files)
  gauge('files_stored', 'Files that are in the store as they are now', () => catalog.lists.totals().stored)
  gauge('files_dirty', 'Files changed since the store saw them', () => catalog.lists.totals().dirty)
  gauge(
    'files_failed',
    'Files that could not be stored',
    () => catalog.lists.totals().failed + mover.unreadable.count,
  )
  gauge('files_drained', 'Files whose legacy copy was removed', () => catalog.lists.totals().drained)
  gauge('bytes', 'Size of all files', () => catalog.lists.totals().bytes)
  gauge('bytes_stored', 'Size of the files in the store', () => catalog.lists.totals().storedBytes)
  gauge('outbox_length', 'Store work that is owed', () => catalog.outbox.length)
  gauge('outbox_oldest_seconds', 'Age of the oldest store work', () => catalog.outbox.oldestSeconds)
  gauge('staging_bytes', 'Bytes in staging files', () => staging.bytes)
  gauge(
    'reads_overtaken',
    'Reads that the volume answered because the store took too long, since the worker started',
    () => counters.overtaken,
  )
  new Gauge({
    name: 'ferryfs_reads',
    help: 'Reads of content by the side that served them, since the worker started',
    labelNames: ['side'],
    registers: [registry],
    collect() {
      const { overtaken: _, ...sides } = counters
      for (const [side, count] of Object.entries(sides)) this.set({ side }, count)
    },
  })
}

/** Times of the applications' requests for which something had to be waited; whatever is answered at once is not in it. */
export function waitMetric(registry: Registry): (operation: string, seconds: number) => void {
  const histogram = new Histogram({
    name: 'ferryfs_wait_seconds',
    help: 'How long applications waited for operations that could not be answered at once (kernel transport)',
    labelNames: ['operation'],
    buckets: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100],
    registers: [registry],
  })
  return (operation, seconds) => histogram.observe({ operation }, seconds)
}

/**
 * How long the event loop was kept in one go, by whatever it was: nobody else is answered meanwhile. What takes more than
 * `LONG_TURN_MS` is a line in the log with the culprit's name.
 */
export function turnMetric(registry: Registry, log: Log): (turn: Turn) => void {
  const histogram = new Histogram({
    name: 'ferryfs_turn_seconds',
    help: 'Turns of the event loop: how long applications waited for others, whoever it was',
    buckets: [0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.3, 1, 3, 10],
    registers: [registry],
  })
  return (turn) => {
    histogram.observe(turn.milliseconds / 1000)
    if (turn.milliseconds < LONG_TURN_MS) return
    const { doing, stack } = turn
    const ms = Math.round(turn.milliseconds)
    const cpuMs = Math.round(turn.cpuMilliseconds)
    const doingMs = Math.round(turn.doingMilliseconds)
    log.warn({ ms, cpuMs, doing, doingMs, stack }, LONG_TURN)
  }
}

/** Words of that line. */
export const LONG_TURN = 'nobody else was answered for long'

/** Counts and times of the requests that reach the store. */
export function storeMetrics(registry: Registry): StoreMetrics {
  const registers = [registry]
  return {
    operations: new Counter({
      name: 'ferryfs_store_operations_total',
      help: 'Requests to the store by their outcome',
      labelNames: ['operation', 'space', 'outcome'],
      registers,
    }),
    seconds: new Histogram({
      name: 'ferryfs_store_operation_seconds',
      help: 'Time of requests to the store',
      labelNames: ['operation', 'space'],
      buckets: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30],
      registers,
    }),
    bytes: new Counter({
      name: 'ferryfs_store_bytes_total',
      help: 'Bytes of values read from and written to the store',
      labelNames: ['direction'],
      registers,
    }),
  }
}
