import { registerHooks } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { Mutation } from './mutations.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))

/**
 * From now on these files of the product are loaded with the changes in them. `check` tells whether each has taken place.
 * @throws Error at the load of a file whose text is not what a mutation was made for
 */
export function mutate(mutations: readonly Mutation[]): { check(): void } {
  const left = new Set(mutations)
  registerHooks({
    load(url, context, nextLoad) {
      const loaded = nextLoad(url, context)
      const file = url.startsWith('file:') ? fileURLToPath(url) : url
      const own = mutations.filter((mutation) => file === ROOT + mutation.file)
      if (own.length === 0) return loaded
      let text = String(loaded.source instanceof Uint8Array ? Buffer.from(loaded.source) : loaded.source)
      for (const mutation of own) {
        if (text.split(mutation.from).length !== 2) {
          throw new Error(`${mutation.file} does not hold once: ${mutation.from}`)
        }
        text = text.replace(mutation.from, () => mutation.to)
        left.delete(mutation)
      }
      return { ...loaded, source: text }
    },
  })
  return {
    check() {
      for (const { file } of left) throw new Error(`${file} is not loaded: nothing is broken in it`)
    },
  }
}
