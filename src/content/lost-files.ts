import { closeSync, constants, copyFileSync, existsSync, fsyncSync, openSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { faultPoint } from '../base/faults.ts'
import { isPlainFile } from '../base/plain-file.ts'
import { makePrivateDirectory } from '../base/private.ts'

/**
 * What a catalog that has lost something may not know to be anybody's: staging files are kept in `lost/`, beside the directory that they
 * were in. Nothing there is ever replaced.
 */
export class LostFiles {
  readonly #from: string
  readonly #to: string

  constructor(stagingDirectory: string) {
    this.#from = stagingDirectory
    this.#to = join(stagingDirectory, '..', 'lost')
  }

  /** Copies files that are still in use. On the medium when it returns; cut short, another call for the same loss does the rest. */
  copyAll(names: Iterable<string>, loss: string): void {
    let isAny = false
    for (const name of names) {
      makePrivateDirectory(this.#to)
      const to = join(this.#to, `${name}.${loss.replaceAll(':', '-')}`)
      // Of an earlier call, and whole.
      if (!isPlainFile(to)) copyWhole(join(this.#from, name), to)
      isAny = true
      faultPoint('content.staging.kept')
    }
    if (isAny) syncNow(this.#to)
  }

  /** Moves a file there that nobody uses. */
  setAside(name: string): void {
    makePrivateDirectory(this.#to)
    let to = join(this.#to, name)
    for (let other = 2; existsSync(to); other += 1) to = join(this.#to, `${name}.${other}`)
    renameSync(join(this.#from, name), to)
  }
}

/** A copy that has its name only once it is on the medium. */
function copyWhole(from: string, to: string): void {
  const unfinished = `${to}.unfinished`
  copyFileSync(from, unfinished, constants.COPYFILE_FICLONE)
  syncNow(unfinished)
  renameSync(unfinished, to)
}

function syncNow(path: string): void {
  const descriptor = openSync(path, constants.O_RDONLY)
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
