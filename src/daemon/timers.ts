import { FsError } from '../base/errors.ts'
import { within } from '../base/turns.ts'
import type { OverlayContext } from '../overlay/index.ts'
import { StoreSuperseded } from '../store/errors.ts'
import type { Built } from './build.ts'
import type { ComposedEngine } from './composed-engine.ts'
import type { Connection } from './connection.ts'
import type { Namespace } from './namespace.ts'
import type { Volume } from './volume.ts'

const LEASE_CHECK_MS = 15_000
// What a copy of the state directory lacks is told of within this time.
const TELL_MS = 5000
const REAP_EVERY_MS = 2000
const MODE_CHECK_MS = 5000
const KEEP_MET_MS = 500
// A few milliseconds.
const MET_AT_ONCE = 128
export const VOLUME_CHECK_MS = 2000

/** What is looked at again and again while the mount is served. */
export function startTimers(
  { context, mover, reaper }: Built,
  {
    look,
    volume,
    engine,
    connection,
  }: {
    look: Namespace['look']
    volume: Volume
    engine: ComposedEngine
    connection: Connection
  },
): NodeJS.Timeout[] {
  const { catalog, carrier, log } = context
  const checkLease = (): void => {
    look().catch((error: unknown) => {
      // A store that is down says nothing about who has the namespace; nor is its other work to wait for that.
      if (error instanceof StoreSuperseded) carrier.noteFailure(error)
    })
  }
  const reap = (): void => {
    if (!context.policy().removesLegacy || mover.state === 'running') return
    reaper
      .sweep(() => Promise.resolve(context.policy().removesLegacy))
      .catch((error: unknown) => log.error({ err: error }, 'removing legacy copies failed'))
  }
  const keepMet = (): void => {
    try {
      catalog.keepMet(MET_AT_ONCE)
    } catch (error) {
      // A disk that still is full.
      if (!(error instanceof FsError)) throw error
    }
  }
  const lookAtVolume = volumeCheck(context, volume, connection)
  const whenReady = async (what: string, body: () => void): Promise<void> => {
    await catalog.ready()
    if (!carrier.stopped) within(what, body)
  }
  const timers = [
    setInterval(() => void whenReady('a look at the lease', checkLease), LEASE_CHECK_MS),
    setInterval(() => {
      if (catalog.state.hasChanged) void whenReady('telling of the state', checkLease)
    }, TELL_MS),
    setInterval(() => {
      if (catalog.hasMet) void whenReady('rows of files that were met', keepMet)
    }, KEEP_MET_MS),
    setInterval(reap, REAP_EVERY_MS),
    setInterval(() => within('a look at the volume', lookAtVolume), VOLUME_CHECK_MS),
    setInterval(() => within('the change of mode', () => engine.continueModeChange()), MODE_CHECK_MS),
  ]
  for (const timer of timers) timer.unref()
  return timers
}

/** Looks after the legacy volume: says when it fails, and takes it up again when it has been mounted anew. */
function volumeCheck(
  { legacyFiles, log }: OverlayContext,
  volume: Volume,
  connection: Connection,
): () => void {
  let failing = false
  let looking = false
  return () => {
    if (looking) return
    looking = true
    volume
      .heal()
      .then((found) => {
        const fails = found === 'failing' || found === 'removed'
        if (fails && !failing) log.error({}, volume.failure ?? 'the legacy volume does not answer')
        if (!fails && failing) log.info({}, 'the legacy volume answers again')
        failing = fails
        if (found === 'removed' || found === 'replaced') legacyFiles.close()
        if (found === 'replaced') connection.useSource(true)
      })
      .catch((error: unknown) => log.error({ err: error }, 'looking after the legacy volume failed'))
      .finally(() => {
        looking = false
      })
  }
}
