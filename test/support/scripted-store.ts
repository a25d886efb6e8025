import type {
  GetOptions,
  KeySpace,
  KeyValueStore,
  ObjectToStore,
  ObjectVersion,
  RequestOptions,
  StoredObject,
} from '../../src/store/contract.ts'
import { MemoryStore } from '../../src/store/memory/store.ts'

export type ScriptedOperation = 'get' | 'put' | 'delete' | 'keys' | 'ping'

/** What happens around a request: throw before `proceed` (nothing happened) or after it (an answer was lost). */
export type Script = (
  operation: ScriptedOperation,
  proceed: () => Promise<void>,
  signal: AbortSignal | undefined,
) => Promise<void>

/** A wait that nothing ends: a store behind a firewall that drops every packet. */
export function blackHole(): Promise<never> {
  return new Promise(() => undefined)
}

/** A store in memory that a test makes fail. */
export class ScriptedStore implements KeyValueStore {
  readonly inner = new MemoryStore()
  readonly url = 'scripted:'
  readonly capabilities = this.inner.capabilities
  /** Attempts that reached the store. */
  readonly calls: ScriptedOperation[] = []
  script: Script = (_operation, proceed) => proceed()

  get(space: KeySpace, key: string, options?: GetOptions): Promise<StoredObject | undefined> {
    return this.#play('get', options, () => this.inner.get(space, key, options))
  }

  put(space: KeySpace, key: string, object: ObjectToStore, options?: RequestOptions): Promise<void> {
    return this.#play('put', options, () => this.inner.put(space, key, object))
  }

  delete(space: KeySpace, key: string, version: ObjectVersion, options?: RequestOptions): Promise<void> {
    return this.#play('delete', options, () => this.inner.delete(space, key, version))
  }

  async *keys(space: KeySpace, options?: RequestOptions): AsyncIterable<string> {
    for await (const key of this.inner.keys(space)) {
      await this.#play('keys', options, async () => undefined)
      yield key
    }
  }

  ping(options?: RequestOptions): Promise<void> {
    return this.#play('ping', options, async () => undefined)
  }

  close(): Promise<void> {
    return this.inner.close()
  }

  async #play<T>(
    operation: ScriptedOperation,
    options: RequestOptions | undefined,
    request: () => Promise<T>,
  ): Promise<T> {
    this.calls.push(operation)
    let result: { readonly value: T } | undefined
    const proceed = async () => {
      result = { value: await request() }
    }
    await this.script(operation, proceed, options?.signal)
    if (!result) throw new Error('the script neither proceeded nor threw')
    return result.value
  }
}
