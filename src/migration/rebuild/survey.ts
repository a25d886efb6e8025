import { giveWay } from '../../base/pace.ts'
import { fileId, ROOT_INO } from '../../catalog/index.ts'
import type { DirectoryHeader } from '../../content/index.ts'
import { StoreCorrupt } from '../../store/errors.ts'
import type { RebuildFindings } from './report.ts'
import { reasonOfLoss, type StoreReader } from './store-reader.ts'
import { STATES, type SurveyedDirectory, type SurveyTable } from './survey-table.ts'

/** Everything that the records of a store say, from the root directory's down. Each record is read once, whatever names it. */
export class Survey {
  readonly #table: SurveyTable
  readonly #reader: StoreReader
  readonly #findings: RebuildFindings
  readonly #signal: AbortSignal

  constructor(table: SurveyTable, reader: StoreReader, findings: RebuildFindings, signal: AbortSignal) {
    this.#table = table
    this.#reader = reader
    this.#findings = findings
    this.#signal = signal
  }

  /** @throws StoreUnavailable if the store cannot say now what it has */
  async run(concurrency: number, onDirectory: () => void): Promise<void> {
    this.#table.addRoot(ROOT_INO)
    for (;;) {
      this.#signal.throwIfAborted()
      const some = this.#table.inState(STATES.named, concurrency)
      if (some.length === 0) break
      const ended = await Promise.allSettled(some.map((directory) => this.#read(directory)))
      for (const one of ended) if (one.status === 'rejected') throw one.reason
      onDirectory()
      await giveWay()
    }
    await this.#markStale()
  }

  /** A few at a time: until it ends, what a transaction changes is in memory. */
  async #markStale(): Promise<void> {
    for (let after: number | undefined = 0; ; ) {
      this.#signal.throwIfAborted()
      after = this.#table.markStale(after)
      if (after === undefined) return
      await giveWay()
    }
  }

  async #read(directory: SurveyedDirectory): Promise<void> {
    const { ino, generation } = directory
    const id = fileId(directory)
    let header: DirectoryHeader
    try {
      header = await this.#reader.header(id)
      if (header.ino !== ino || header.generation !== generation)
        throw new StoreCorrupt(`directory record ${id} says that it is of ${fileId(header)}`)
    } catch (error) {
      this.#table.setRead(directory, undefined, reasonOfLoss(error, this.#pathOf(directory)))
      return
    }
    let first: string | undefined
    let lost = 0
    for (let shard = 0; shard < header.shards; shard += 1) {
      try {
        await this.#readShard(directory, header.recordGeneration, shard)
      } catch (error) {
        const reason = reasonOfLoss(error, this.#pathOf(directory))
        first ??= reason
        lost += 1
      }
    }
    const loss = lost === 0 ? undefined : `${lost} of ${header.shards} parts of its record are lost: ${first}`
    this.#table.setRead(directory, header, loss)
  }

  async #readShard(directory: SurveyedDirectory, recordGeneration: number, shard: number): Promise<void> {
    this.#signal.throwIfAborted()
    const read = await this.#reader.shard(fileId(directory), recordGeneration, shard)
    this.#table.transaction(() => {
      for (const entry of read.entries) this.#table.addName(directory.n, entry, false, read.version)
      for (const entry of read.leaving) this.#table.addName(directory.n, entry, true, read.version)
    })
    if (read.refused.length === 0) return
    const path = this.#pathOf(directory)
    for (const { name, reason } of read.refused) this.#findings.add('left out', `${path}/${name}`, reason)
  }

  #pathOf(directory: SurveyedDirectory): string {
    return this.#table.pathOf(directory.n, undefined)
  }
}
