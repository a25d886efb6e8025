import { type FileHandle, open, rename } from 'node:fs/promises'

export interface LogFileOptions {
  /** A file that grew past this many bytes is put aside. */
  readonly maxBytes?: number
  /** Files put aside that are kept, as `<path>.1` (the youngest) and up. */
  readonly keep?: number
}

// Characters that wait for a disk which does not take them, at most.
const MOST_WAITING = 1024 * 1024

/**
 * A file of log lines that never takes more than `maxBytes * (keep + 1)` of the disk, one long line aside (P6). Threads of the pool
 * write it: a disk that hangs keeps nobody who says something.
 */
export class LogFile {
  readonly path: string
  readonly #maxBytes: number
  readonly #keep: number
  #file: FileHandle | undefined
  #bytes = 0
  #waiting: string[] = []
  #length = 0
  #dropped = 0
  #writing: Promise<void> | undefined

  constructor(path: string, options: LogFileOptions = {}) {
    this.path = path
    this.#maxBytes = options.maxBytes ?? 8 * 1024 * 1024
    this.#keep = options.keep ?? 3
  }

  /** Appends one line. A disk that is full, gone or slow costs the line, never the process that wrote it. */
  write(line: string): void {
    if (this.#length > MOST_WAITING) {
      this.#dropped += 1
      return
    }
    this.#waiting.push(line.endsWith('\n') ? line : `${line}\n`)
    this.#length += line.length
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined
    })
  }

  /** Resolves once all of it is written. */
  async close(): Promise<void> {
    await this.#writing
    await this.#forget()
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const lines = this.#waiting
      const dropped = this.#dropped
      this.#waiting = []
      this.#length = 0
      this.#dropped = 0
      if (dropped > 0) lines.push(`${JSON.stringify({ level: 'warn', msg: `${dropped} lines were lost` })}\n`)
      for (const line of lines) await this.#append(line)
    }
  }

  async #append(line: string): Promise<void> {
    try {
      const file = (this.#file ??= await this.#open())
      this.#bytes += (await file.write(line)).bytesWritten
      if (this.#bytes >= this.#maxBytes) await this.#rotate()
    } catch {
      await this.#forget()
    }
  }

  async #open(): Promise<FileHandle> {
    const file = await open(this.path, 'a', 0o600)
    this.#bytes = (await file.stat()).size
    return file
  }

  async #forget(): Promise<void> {
    const file = this.#file
    this.#file = undefined
    await file?.close().catch(() => undefined)
  }

  async #rotate(): Promise<void> {
    await this.#forget()
    for (let index = this.#keep; index > 0; index -= 1) {
      const from = index === 1 ? this.path : `${this.path}.${index - 1}`
      // Not there yet: fewer than `keep` files were put aside so far.
      await rename(from, `${this.path}.${index}`).catch(() => undefined)
    }
  }
}
