import type { Logger } from 'pino'
import type { ControlRequest } from './control-protocol.ts'
import type { Engine, LongRunning, MigrateOptions } from './engine.ts'

type EngineRequest = Exclude<ControlRequest, { command: 'unmount' | 'tree' }>

// A migration that neither fails nor moves by then (a long scan, paused) counts as started.
const STARTED_MS = 1_000

/** Directs a request at the engine. @throws Refused, the engine's errors */
export async function carryOut(
  engine: Engine,
  request: EngineRequest,
  run: LongRunning,
  log: Logger,
): Promise<unknown> {
  switch (request.command) {
    case 'status':
      return engine.status()
    case 'mode':
      if (request.mode) await engine.setMode(request.mode, request.wait ? run : undefined)
      return { mode: (await engine.status()).mode }
    case 'migrate':
      return request.wait
        ? engine.migrate(optionsOf(request), run)
        : startMigration(engine, optionsOf(request), log)
    case 'pause':
      engine.pauseMigration()
      return {}
    case 'resume':
      engine.resumeMigration()
      return {}
    case 'verify':
      return engine.verify(run, { acceptLosses: request.acceptLosses ?? false })
    case 'sweep':
      return engine.sweep({ dryRun: request.dryRun, all: request.all }, run)
  }
}

function optionsOf({
  rate,
  concurrency,
}: {
  readonly rate?: number | undefined
  readonly concurrency?: number | undefined
}): MigrateOptions {
  return { ...(rate === undefined ? {} : { rate }), ...(concurrency === undefined ? {} : { concurrency }) }
}

/** Resolves once the migration runs, so that one that is refused is not reported as started. */
async function startMigration(
  engine: Engine,
  options: MigrateOptions,
  log: Logger,
): Promise<{ readonly started: true }> {
  const moving = Promise.withResolvers<void>()
  const migration = engine.migrate(options, {
    onProgress: () => moving.resolve(),
    // Nobody waits for this run: it goes on until it is done or the worker ends.
    signal: new AbortController().signal,
  })
  migration.then(
    ({ files, remaining, changed }) => log.info({ files, remaining, changed }, 'the migration has ended'),
    (error: unknown) => log.error({ err: error }, 'the migration failed'),
  )
  const timer = setTimeout(() => moving.resolve(), STARTED_MS)
  try {
    await Promise.race([migration, moving.promise])
  } finally {
    clearTimeout(timer)
  }
  return { started: true }
}
