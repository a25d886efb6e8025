import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { KeyValueStore, ObjectToStore } from '../../src/store/contract.ts'
import { StoreSuperseded } from '../../src/store/errors.ts'
import { bytes, type Current, expectSame, failureOf, listed, object, version } from './store-fixtures.ts'

interface Model {
  readonly objects: Map<string, ObjectToStore>
  /** Highest version ever deleted under a key. What a put below it does is not the contract's business. */
  readonly deleted: Map<string, number>
}

interface Real {
  readonly store: KeyValueStore
  readonly prefix: string
}

class PutCommand implements fc.AsyncCommand<Model, Real> {
  readonly key: string
  readonly object: ObjectToStore

  constructor(key: string, stored: ObjectToStore) {
    this.key = key
    this.object = stored
  }

  check(model: Readonly<Model>): boolean {
    return this.object.version.version > (model.deleted.get(this.key) ?? -1)
  }

  async run(model: Model, real: Real): Promise<void> {
    const known = model.objects.get(this.key)
    const failure = await failureOf(real.store.put('files', real.prefix + this.key, this.object))
    if (known && known.version.version > this.object.version.version) {
      expect(failure).toBeInstanceOf(StoreSuperseded)
      return
    }
    expect(failure).toBeUndefined()
    model.objects.set(this.key, this.object)
  }

  toString(): string {
    return `put ${this.key} v${this.object.version.version} ${this.object.value.length} bytes`
  }
}

class DeleteCommand implements fc.AsyncCommand<Model, Real> {
  readonly key: string
  readonly version: number

  constructor(key: string, at: number) {
    this.key = key
    this.version = at
  }

  check(): boolean {
    return true
  }

  async run(model: Model, real: Real): Promise<void> {
    const known = model.objects.get(this.key)
    const failure = await failureOf(real.store.delete('files', real.prefix + this.key, version(this.version)))
    if (known && known.version.version > this.version) {
      expect(failure).toBeInstanceOf(StoreSuperseded)
      return
    }
    expect(failure).toBeUndefined()
    model.objects.delete(this.key)
    model.deleted.set(this.key, Math.max(model.deleted.get(this.key) ?? -1, this.version))
  }

  toString(): string {
    return `delete ${this.key} v${this.version}`
  }
}

class GetCommand implements fc.AsyncCommand<Model, Real> {
  readonly key: string

  constructor(key: string) {
    this.key = key
  }

  check(): boolean {
    return true
  }

  async run(model: Model, real: Real): Promise<void> {
    expectSame(await real.store.get('files', real.prefix + this.key), model.objects.get(this.key))
  }

  toString(): string {
    return `get ${this.key}`
  }
}

class KeysCommand implements fc.AsyncCommand<Model, Real> {
  check(): boolean {
    return true
  }

  async run(model: Model, real: Real): Promise<void> {
    if (!real.store.capabilities.listing) return
    const keys = await listed(real.store, 'files', real.prefix)
    expect(keys.map((key) => key.slice(real.prefix.length))).toEqual([...model.objects.keys()].sort())
  }

  toString(): string {
    return 'keys'
  }
}

/** Random sequences of operations, run against the store and a plain Map side by side. */
export function modelTest(current: () => Current): void {
  test('P1: random operations against a Map', async () => {
    const { store, own } = current()
    const key = fc.constantFrom('a', 'b', 'c/d')
    const at = fc.nat(6)
    // A version stands for one content: repeating a put with other bytes is not the contract's business either.
    const put = fc.tuple(key, at).map(([name, number]) => {
      const size = number % 3 === 0 ? 40_000 : number * 10
      return new PutCommand(name, {
        ...object(bytes(size, number), version(number)),
        contentType: `text/x-${number}`,
        metadata: { n: `${number}` },
      })
    })
    const commands = [
      put,
      put,
      fc.tuple(key, at).map(([name, number]) => new DeleteCommand(name, number)),
      key.map((name) => new GetCommand(name)),
      fc.constant(new KeysCommand()),
    ]
    let count = 0
    await fc.assert(
      fc.asyncProperty(fc.commands(commands, { maxCommands: 30 }), (sequence) =>
        fc.asyncModelRun(
          () => ({
            model: { objects: new Map(), deleted: new Map() },
            real: { store, prefix: `${own}${(count += 1)}/` },
          }),
          sequence,
        ),
      ),
      { numRuns: 40 },
    )
  })
}
