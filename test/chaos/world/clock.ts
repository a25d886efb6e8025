import { globSync, writeFileSync } from 'node:fs'

/** The library that shows a process another time of day; undefined where it is not installed. */
function library(): string | undefined {
  return globSync('/usr/lib/{*/,}faketime/libfaketime.so.1')[0]
}

/** A wall clock for the daemon under test that can be set, while everybody else has the real one. */
export class Clock {
  readonly #library: string
  readonly #file: string

  private constructor(path: string, file: string) {
    this.#library = path
    this.#file = file
    this.step(0)
  }

  /** Undefined where there is no way to have one. */
  static at(file: string): Clock | undefined {
    const path = library()
    return path === undefined ? undefined : new Clock(path, file)
  }

  /** What the processes that go by this clock need in their environment. */
  get environment(): Readonly<Record<string, string>> {
    return {
      LD_PRELOAD: this.#library,
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DISABLE_SHM: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      DONT_FAKE_MONOTONIC: '1',
      // A step does not change what files say that are there already.
      NO_FAKE_STAT: '1',
    }
  }

  /** So many seconds before or after the real time, from now on. */
  step(seconds: number): void {
    writeFileSync(this.#file, `${seconds < 0 ? '-' : '+'}${Math.abs(seconds)}\n`)
  }
}
