import { z } from 'zod'
import { FsError } from '../base/errors.ts'
import type { Catalog } from '../catalog/index.ts'
import type { RequestContext } from '../fuse/operations.ts'

/** Transports that do not number requests never repeat one either. */
const UNNUMBERED = 0n

const schema = z.object({ ino: z.string().optional() })

/**
 * Answers to operations that must not take place twice. Each is recorded in the transaction that makes the operation's
 * effect, under the number of the request; when the kernel repeats the request to a successor, it gets the recorded
 * answer (P7). Once the kernel has the answer the record goes, together with the next change.
 */
export class Answers {
  readonly #catalog: Catalog
  #delivered: bigint[] = []

  constructor(catalog: Catalog) {
    this.#catalog = catalog
  }

  /** The answer that a predecessor recorded: an inode number, or `'done'`. */
  recorded(context: RequestContext): bigint | 'done' | undefined {
    if (!context.resent) return undefined
    const text = this.#catalog.intents.get(context.unique)?.answer
    if (text === undefined) return undefined
    const parsed = schema.safeParse(JSON.parse(text))
    if (!parsed.success) throw new FsError('EIO', 'the recorded answer cannot be read')
    return parsed.data.ino === undefined ? 'done' : BigInt(parsed.data.ino)
  }

  /** Inside the transaction of the effect. */
  record({ unique }: Pick<RequestContext, 'unique'>, ino?: bigint): void {
    this.#sweep()
    if (unique === UNNUMBERED) this.#catalog.intents.drop(unique)
    else
      this.#catalog.intents.put(unique, '', JSON.stringify(ino === undefined ? {} : { ino: ino.toString() }))
  }

  /** The kernel has the answer. */
  delivered(unique: bigint): void {
    this.#delivered.push(unique)
    if (this.#delivered.length > 256 && !this.#catalog.ready()) this.#catalog.transaction(() => this.#sweep())
  }

  #sweep(): void {
    for (const unique of this.#delivered) this.#catalog.intents.drop(unique)
    this.#delivered = []
  }
}
