import type { Settings } from './options.ts'

/** Everything a daemon is told: SOURCE, TARGET and the settings, checked, with real paths. Plain JSON. */
export interface MountConfig extends Omit<Settings, 'stateDir'> {
  /** Real path of the legacy volume. */
  readonly source: string
  /** Real path of the mount point. */
  readonly target: string
  /** Absolute; exists, mode 0700, held by the supervisor. */
  readonly stateDir: string
  /**
   * The mode that the operator asked for when mounting. Undefined: the one the state directory records, `mirror` if it
   * records none. A worker that takes over always gets undefined, because the mode may have been changed live.
   */
  readonly mode: Settings['mode']
  /** The id of the state directory whose place this mount takes, as SOURCE's mark has it. */
  readonly takesFrom?: string | undefined
  /** The operator means it, whatever SOURCE says of who knows its files. */
  readonly takeOver?: boolean | undefined
  /** The state directory is on SOURCE's own volume. */
  readonly sharesVolume?: boolean | undefined
}
