import fc from 'fast-check'
import type { ModelNode } from './model.ts'
import type { System } from './system.ts'

const MiB = 1024 * 1024

/** One step of a run; it picks its files by number from what there is. */
export class Step implements fc.AsyncCommand<object, System> {
  readonly #name: string
  readonly #arguments: readonly unknown[]
  readonly #body: (system: System) => Promise<void>

  constructor(name: string, args: readonly unknown[], body: (system: System) => Promise<void>) {
    this.#name = name
    this.#arguments = args
    this.#body = body
  }

  check(): boolean {
    return true
  }

  async run(_model: object, system: System): Promise<void> {
    if (system.rig.dead) await system.rig.restart('worker')
    system.trace.push(this.toString())
    try {
      await this.#body(system)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      throw new Error(`${this.toString()}: ${why}\nafter\n  ${system.trace.join('\n  ')}`, {
        cause: error,
      })
    }
  }

  toString(): string {
    return `${this.#name}(${this.#arguments.map(show).join(', ')})`
  }
}

const show = (value: unknown): string => (typeof value === 'bigint' ? `${value}n` : JSON.stringify(value))

type Body<T extends readonly unknown[]> = (system: System, ...args: T) => Promise<void>

export function step<T extends readonly unknown[]>(
  name: string,
  args: { [K in keyof T]: fc.Arbitrary<T[K]> },
  body: Body<T>,
): fc.Arbitrary<Step> {
  return fc
    .tuple<[...T]>(...args)
    .map((values) => new Step(name, values, (system) => body(system, ...values)))
}

export const pick = fc.nat(1000)
// One that is not UTF-8, and one longer than a shard key's escape likes.
export const names = fc.constantFrom('a', 'b', 'c', 'd', 'caf\xe9', '%25 x')
export const offset = fc.constantFrom(0, 1, 10, 63, 64, 65, 200, 4096, MiB - 2, MiB, MiB + 1, 2 * MiB - 1)
export const length = fc.constantFrom(1, 5, 64, 65, 300, 5000)
export const permissions = fc.constantFrom(0o644, 0o600, 0o755, 0o777, 0o400)
export const attribute = fc.constantFrom('user.a', 'user.b', 'user.long')

export function chosen<T>(from: readonly T[], number: number): T | undefined {
  return from[number % from.length]
}

export function directoryOf(system: System, number: number): ModelNode {
  return chosen(system.tree.directories(), number) ?? system.tree.root
}

export const raw = (name: string): Buffer => Buffer.from(name, 'latin1')

export function data(size: number, seed: number): Buffer {
  const buffer = Buffer.alloc(size)
  for (let at = 0; at < size; at += 1) buffer[at] = (seed * 31 + at * 7) & 0xff
  return buffer
}
