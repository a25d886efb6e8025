import { closeSync, openSync } from 'node:fs'
import type { Holder } from '../content/index.ts'
import type { Connection } from './connection.ts'

/** Files without a name, kept open by the supervisor, and by this process for its own use. */
export class ConnectionHolder implements Holder {
  readonly #connection: Connection
  readonly #own = new Map<string, number>()
  readonly #paths: Map<string, string>

  constructor(connection: Connection) {
    this.#connection = connection
    this.#paths = new Map(connection.held)
  }

  async hold(id: string, descriptor: number): Promise<void> {
    const own = openSync(`/proc/self/fd/${descriptor}`, 'r')
    try {
      await this.#connection.hold(id, descriptor)
    } catch (error) {
      closeSync(own)
      throw error
    }
    this.drop(id, false)
    this.#own.set(id, own)
    this.#paths.set(id, `/proc/self/fd/${own}`)
  }

  drop(id: string, everywhere = true): void {
    if (!this.#paths.delete(id)) return
    const own = this.#own.get(id)
    this.#own.delete(id)
    if (own !== undefined) closeSync(own)
    if (everywhere) this.#connection.drop(id)
  }

  path(id: string): string | undefined {
    return this.#paths.get(id)
  }

  ids(): string[] {
    return [...this.#paths.keys()]
  }
}
