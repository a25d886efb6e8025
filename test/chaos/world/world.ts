import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Boot } from '../../support/power/boot.ts'
import { PowerDisks } from '../../support/power/power-disks.ts'
import { whyNoPower } from '../../support/power/why-no-power.ts'
import { WeakVolume } from '../../support/volume/weak-volume.ts'
import { takeAwayLater } from '../interrupts.ts'
import { Clock } from './clock.ts'
import { Daemon, type Program } from './daemon.ts'
import { Disk } from './disks.ts'
import type { StoreUnderTest } from './store.ts'

export interface Settings {
  /** Longest wait of one operation for the store, as the daemon writes it, e.g. `4s`. */
  readonly opTimeout: string
  /** The legacy volume and the state directory on small file systems of their own. */
  readonly smallDisks: boolean
  /** The legacy volume behind a server that fails on command. */
  readonly weakVolume: boolean
  /** A wall clock of the daemon's own. */
  readonly ownClock: boolean
  /** The legacy volume, the state directory and the embedded store on disks that can lose power. */
  readonly powerDisks: boolean
  /**
   * Which half of the fault points a session that kills at points takes: those of even or of odd number. On disks that can lose
   * power: all of it on one file system (0), or the legacy volume on one of its own (1).
   */
  readonly half: number
  readonly variant: Variant
  /** The store's and the daemon's own limits for one operation, as an operator has them, instead of short ones. */
  readonly defaultTimeouts: boolean
}

/** How a daemon is mounted beside its mode. */
export const VARIANTS = ['plain', 'ack-store', 'source-readonly'] as const
export type Variant = (typeof VARIANTS)[number]

const VARIANT_OPTIONS: Readonly<Record<Variant, readonly string[]>> = {
  plain: [],
  'ack-store': ['--ack', 'store'],
  'source-readonly': ['--source-readonly'],
}

const VOLUME_SIZE = '96m'
const STATE_SIZE = '96m'
let number = 0

/** The surroundings of one mount: directories, file systems, namespace and daemon. */
export class World {
  readonly root: string
  /** The legacy directory itself, also where the daemon sees it through a volume that fails. */
  readonly legacy: string
  readonly store: StoreUnderTest
  readonly namespace: string
  readonly daemon: Daemon
  readonly settings: Settings
  /** Only with `smallDisks`. */
  readonly volume: Disk | undefined
  readonly stateDisk: Disk | undefined
  /** Only with `weakVolume`. */
  readonly weakVolume: WeakVolume | undefined
  /** Only with `ownClock`, and where there is a way to have one. */
  readonly clock: Clock | undefined
  /** Only with `powerDisks`, and where there is a way to have them. */
  readonly power: PowerDisks | undefined
  /** Why there are none. */
  readonly whyNoPower: string | undefined
  readonly boot: Boot
  readonly #program: Program
  readonly #ground: Disk
  readonly #others: Daemon[] = []
  readonly #forget: () => void

  private constructor(
    program: Program,
    store: StoreUnderTest,
    settings: Settings,
    root: string,
    disks: Disks,
  ) {
    this.#program = program
    this.#forget = takeAwayLater(() => this.clear())
    this.store = store
    this.settings = settings
    this.root = root
    this.boot = new Boot(join(this.root, 'boot-id'))
    this.namespace = `chaos-${process.pid}-${Date.now().toString(36)}-${number++}`
    this.volume = disks.volume
    this.power = disks.power
    this.whyNoPower = disks.whyNoPower
    this.stateDisk = disks.state
    this.#ground = disks.ground
    mkdirSync(join(this.root, 'volume', 'legacy'), { recursive: true })
    mkdirSync(this.#own, { recursive: true })
    this.legacy = join(this.root, 'volume', 'legacy')
    this.clock = settings.ownClock ? Clock.at(join(this.root, 'clock')) : undefined
    this.weakVolume = settings.weakVolume ? new WeakVolume(this.legacy, join(this.root, 'source')) : undefined
    this.daemon = this.#daemon(this.#source, join(this.#own, 'state'))
  }

  static async make(program: Program, store: StoreUnderTest, settings: Settings): Promise<World> {
    const root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-chaos-')))
    return new World(program, store, settings, root, await disksBelow(root, settings))
  }

  /** Where the daemon has what is its own: state directory and embedded store. */
  get #own(): string {
    return join(this.root, this.power && this.settings.half === 0 ? 'volume' : 'disk')
  }

  /** What has to be there before a daemon can be mounted. */
  async open(): Promise<void> {
    // The volume has been there for long.
    await this.power?.sync()
    await this.weakVolume?.start()
  }

  /** Where the daemon finds the legacy volume. */
  get #source(): string {
    return this.weakVolume?.target ?? this.legacy
  }

  get target(): string {
    return this.daemon.places.target
  }

  /** Named here and read by the daemon's fault points (FERRYFS_FAULT=@file). */
  get faultFile(): string {
    return join(this.root, 'fault')
  }

  /** A daemon for the same target on another state directory, after `rebuild`, with nothing in its SOURCE. */
  successor(stateDir: string): Daemon {
    const source = join(this.root, 'nothing')
    mkdirSync(source, { recursive: true })
    const daemon = this.#daemon(source, stateDir)
    this.#others.push(daemon)
    return daemon
  }

  /** A daemon that has no business here: another tree, the same namespace. */
  intruder(): Daemon {
    const [source, target] = [join(this.root, 'other'), join(this.root, 'other-target')]
    for (const directory of [source, target]) mkdirSync(directory, { recursive: true })
    const daemon = this.#daemon(source, join(this.root, 'other-state'), target)
    this.#others.push(daemon)
    return daemon
  }

  #daemon(source: string, stateDir: string, target = join(this.root, 'ground', 'target')): Daemon {
    const environment = {
      ...this.#program.environment,
      ...this.clock?.environment,
      FERRYFS_FAULT: `@${this.faultFile}`,
      // No copy may hide what the store answers; small files are chunked, too.
      FERRYFS_MEMORY_CACHE_LIMIT: '0',
      FERRYFS_CACHE_LIMIT: '0',
      FERRYFS_INLINE_LIMIT: '8KiB',
      FERRYFS_CONCURRENCY: '4',
      ...(this.settings.defaultTimeouts ? {} : { FERRYFS_OP_TIMEOUT: this.settings.opTimeout }),
      FERRYFS_STAGING_LIMIT: '48MiB',
    }
    const places = { source, target, stateDir, runDir: join(this.root, 'run') }
    const storage = [
      '--store',
      this.store.url(this.#own, this.settings.defaultTimeouts),
      '--namespace',
      this.namespace,
    ]
    const options = [...storage, ...VARIANT_OPTIONS[this.settings.variant]]
    return new Daemon({ cli: this.#program.cli, environment }, places, options, this.boot)
  }

  storage(): [store: string, namespace: string] {
    return [this.store.url(this.#own, this.settings.defaultTimeouts), this.namespace]
  }

  async clear(): Promise<void> {
    this.#forget()
    // First: whoever waits for the volume gets its answer.
    await this.weakVolume?.remove()
    for (const daemon of [this.daemon, ...this.#others]) await daemon.clear()
    for (const disk of [this.volume, this.stateDisk, this.#ground]) await disk?.remove()
    await this.power?.remove()
    rmSync(this.root, { recursive: true, force: true })
  }
}

/** What a world's directories lie on. */
interface Disks {
  readonly volume: Disk | undefined
  readonly state: Disk | undefined
  readonly power: PowerDisks | undefined
  readonly whyNoPower: string | undefined
  readonly ground: Disk
}

async function disksBelow(root: string, { smallDisks, powerDisks, half }: Settings): Promise<Disks> {
  const volume = smallDisks ? await Disk.make(join(root, 'volume'), VOLUME_SIZE) : undefined
  const why = powerDisks ? await whyNoPower() : undefined
  const power = powerDisks && why === undefined ? await powerDisksBelow(root, half) : undefined
  const state = smallDisks ? await Disk.make(join(root, 'disk'), STATE_SIZE) : undefined
  return { volume, state, power, whyNoPower: why, ground: await groundBelow(root) }
}

function powerDisksBelow(root: string, half: number): Promise<PowerDisks> {
  const mountPoints = half === 0 ? ['volume'] : ['volume', 'disk']
  return PowerDisks.make(
    join(root, 'power'),
    mountPoints.map((name) => join(root, name)),
  )
}

/**
 * Under the mount lies nothing, and nothing can be made there: a client that comes while nothing is mounted gets an error,
 * never a success that means nothing.
 */
async function groundBelow(root: string): Promise<Disk> {
  const ground = await Disk.make(join(root, 'ground'), '1m')
  mkdirSync(join(root, 'ground', 'target'))
  await ground.share()
  await ground.setReadOnly(true)
  return ground
}
