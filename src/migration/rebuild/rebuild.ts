import { faultPoint } from '../../base/faults.ts'
import { giveWay } from '../../base/pace.ts'
import { type Catalog, NAMES_COUNTED } from '../../catalog/index.ts'
import type { Log } from '../../observe/log.ts'
import type { KeyValueStore } from '../../store/contract.ts'
import { ProgressMeter, type RunProgress } from '../progress.ts'
import { DirectoryPlaces, type Rebuilding } from './place-directories.ts'
import { FilePlaces } from './place-files.ts'
import { type RebuildFailure, RebuildFindings } from './report.ts'
import { StoreReader } from './store-reader.ts'
import { Survey } from './survey.ts'
import { SurveyTable } from './survey-table.ts'

// Numbers have 50 bits (MOST_VERSION), and a skip goes over 2^30.
const MOST_SKIPS = 2 ** 19

export interface RebuildRun {
  readonly onProgress: (progress: RunProgress) => void
  readonly signal: AbortSignal
  /** A file for what the records say, removed again. */
  readonly surveyPath: string
  /** What is lost is left out of the tree, and goes from the records in the store, too. */
  readonly acceptLosses?: boolean | undefined
  /** How often the namespace was taken before, which bounds the numbers that a record can have named that is lost. */
  readonly timesTaken?: number | undefined
}

export interface RebuildResult {
  readonly files: number
  readonly directories: number
  readonly bytes: number
  /** The first of them; `failureCount` counts all. */
  readonly failures: readonly RebuildFailure[]
  readonly failureCount: number
}

/**
 * Makes a catalog out of the store alone, from the root directory's record down. First everything that the records say is written to a
 * file, then each directory and file gets its place: where the newest record has it, whatever older ones say. What is lost or
 * damaged is in the tree as such. All of it is under the catalog's authority with the store as its base.
 *
 * A store may say anything. Nothing here grows with a directory, a file or the tree, nothing is read twice, and no name comes in that a
 * directory cannot have.
 */
export class Rebuild {
  readonly #catalog: Catalog
  readonly #store: KeyValueStore
  readonly #log: Log
  readonly #run: RebuildRun

  constructor(catalog: Catalog, store: KeyValueStore, log: Log, run: RebuildRun) {
    this.#catalog = catalog
    this.#store = store
    this.#log = log
    this.#run = run
  }

  /** @throws StoreUnavailable if the store cannot say now what it has */
  async run(concurrency: number): Promise<RebuildResult> {
    const table = new SurveyTable(this.#run.surveyPath)
    try {
      return await this.#rebuild(table, concurrency)
    } finally {
      await table.close()
    }
  }

  async #rebuild(table: SurveyTable, concurrency: number): Promise<RebuildResult> {
    const { onProgress, signal, acceptLosses = false } = this.#run
    const meter = new ProgressMeter('reading directories', onProgress)
    const reader = new StoreReader(this.#store)
    const findings = new RebuildFindings(this.#log)
    const { damage } = this.#store.capabilities
    if (damage !== undefined) findings.add('older', '.', `${damage}, and do this again`)
    await new Survey(table, reader, findings, signal).run(concurrency, () => meter.tick())
    faultPoint('migration.rebuild.surveyed')
    meter.phase = 'rebuilding'
    const of: Rebuilding = { catalog: this.#catalog, table, findings, signal, acceptLosses }
    this.#raiseCounters(table, reader)
    if (table.hasLostRecords()) this.#skipUnseen()
    const directories = new DirectoryPlaces(of)
    await directories.place()
    await new FilePlaces(of, reader, meter, concurrency).place()
    this.#catalog.transaction(() => this.#catalog.meta.set(NAMES_COUNTED, 'yes'))
    this.#raiseCounters(table, reader)
    await giveWay()
    await this.#catalog.flush()
    meter.tick(true)
    return {
      files: meter.files,
      directories: directories.directories,
      bytes: meter.bytes,
      failures: findings.kept,
      failureCount: findings.count,
    }
  }

  /** What is numbered from now on comes after all that the store has seen. */
  #raiseCounters(table: SurveyTable, { highestVersion }: StoreReader): void {
    const { generation, ino } = table.highest()
    this.#catalog.transaction(() =>
      this.#catalog.numbers.raise(BigInt(highestVersion) + 1n, generation + 1n, ino + 1n),
    )
  }

  /**
   * What a lost record names may have higher numbers than all that was seen, and the record may come back: nothing new gets the key of
   * what it names. No owner of the namespace has handed out more numbers than a skip goes over.
   */
  #skipUnseen(): void {
    const times = BigInt(Math.min(this.#run.timesTaken ?? 0, MOST_SKIPS)) + 1n
    this.#catalog.transaction(() => this.#catalog.numbers.skip(times))
  }
}
