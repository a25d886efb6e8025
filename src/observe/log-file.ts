import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs'

export interface LogFileOptions {
  /** A file that grew past this many bytes is put aside. */
  readonly maxBytes?: number
  /** Files put aside that are kept, as `<path>.1` (the youngest) and up. */
  readonly keep?: number
}

/** A file of log lines that never takes more than `maxBytes * (keep + 1)` of the disk, one long line aside (P6). */
export class LogFile {
  readonly path: string
  readonly #maxBytes: number
  readonly #keep: number
  #descriptor: number | undefined
  #bytes = 0

  constructor(path: string, options: LogFileOptions = {}) {
    this.path = path
    this.#maxBytes = options.maxBytes ?? 8 * 1024 * 1024
    this.#keep = options.keep ?? 3
  }

  /** Appends one line. A disk that is full or gone costs the line, never the process that wrote it. */
  write(line: string): void {
    try {
      const descriptor = (this.#descriptor ??= this.#open())
      this.#bytes += writeSync(descriptor, line.endsWith('\n') ? line : `${line}\n`)
      if (this.#bytes >= this.#maxBytes) this.#rotate(descriptor)
    } catch {
      this.close()
    }
  }

  close(): void {
    const descriptor = this.#descriptor
    this.#descriptor = undefined
    if (descriptor !== undefined) closeSync(descriptor)
  }

  #open(): number {
    const descriptor = openSync(this.path, 'a', 0o600)
    this.#bytes = fstatSync(descriptor).size
    return descriptor
  }

  #rotate(descriptor: number): void {
    this.#descriptor = undefined
    closeSync(descriptor)
    for (let index = this.#keep; index > 0; index -= 1) {
      const from = index === 1 ? this.path : `${this.path}.${index - 1}`
      try {
        renameSync(from, `${this.path}.${index}`)
      } catch {
        // Not there yet: fewer than `keep` files were put aside so far.
      }
    }
  }
}
