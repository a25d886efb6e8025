import { constants } from 'node:fs'
import { FsError } from '../../base/errors.ts'
import { closeDescriptor, openInside, type Stat, statDescriptor } from '../../sys/index.ts'

const DOT_DOT = Buffer.from('..')
const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW

// Levels of a tree whose directories stay open while one below is filled: what is deeper is closed and found again from below,
// so that a tree of any depth needs few descriptors.
const OPEN_LEVELS = 32

/** A directory of DEST that is being filled. */
export class OpenDirectory {
  readonly depth: number
  readonly #stat: Pick<Stat, 'dev' | 'ino'>
  #descriptor: number | undefined

  constructor(descriptor: number, depth: number) {
    this.#descriptor = descriptor
    this.#stat = statDescriptor(descriptor)
    this.depth = depth
  }

  static below(parent: OpenDirectory, name: Buffer): OpenDirectory {
    return new OpenDirectory(openInside(parent.descriptor, name, DIRECTORY), parent.depth + 1)
  }

  get descriptor(): number {
    if (this.#descriptor === undefined) throw new Error('a directory is used while one below it is filled')
    return this.#descriptor
  }

  /** Nobody uses this one until `resume`. */
  suspend(): void {
    if (this.depth >= OPEN_LEVELS) this.close()
  }

  /** @throws FsError if what is above the directory below is another one now */
  resume(below: OpenDirectory): void {
    if (this.#descriptor !== undefined) return
    const descriptor = openInside(below.descriptor, DOT_DOT, DIRECTORY)
    const { dev, ino } = statDescriptor(descriptor)
    if (dev !== this.#stat.dev || ino !== this.#stat.ino) {
      closeDescriptor(descriptor)
      throw new FsError('ESTALE', 'a directory of DEST was moved while it was filled')
    }
    this.#descriptor = descriptor
  }

  close(): void {
    if (this.#descriptor !== undefined) closeDescriptor(this.#descriptor)
    this.#descriptor = undefined
  }
}
