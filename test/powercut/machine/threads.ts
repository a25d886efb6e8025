import { EventEmitter } from 'node:events'
import { createRequire, registerHooks, syncBuiltinESMExports } from 'node:module'
import { pathToFileURL } from 'node:url'
import threads from 'node:worker_threads'

const IMPORT = "import { parentPort, workerData } from 'node:worker_threads'"

interface Own {
  readonly parentPort: object
  readonly workerData: unknown
}

/** What the module of each thread has in the place of node:worker_threads, by number. */
const own: Own[] = []
Object.assign(globalThis, { powercutThreads: own })

const require = createRequire(import.meta.url)
const NAME = 'powercut-thread:'

registerHooks({
  resolve(specifier, context, nextResolve) {
    if (!specifier.startsWith(NAME)) return nextResolve(specifier, context)
    return { url: specifier.slice(NAME.length), format: 'module-typescript', shortCircuit: true }
  },
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context)
    const [, number] = /\?thread=(\d+)$/.exec(url) ?? []
    if (number === undefined) return loaded
    const text = String(loaded.source instanceof Uint8Array ? Buffer.from(loaded.source) : loaded.source)
    if (!text.includes(IMPORT)) throw new Error(`${url} does not begin as a thread does`)
    const source = text.replace(IMPORT, `const { parentPort, workerData } = powercutThreads[${number}]`)
    return { ...loaded, source }
  },
})

/**
 * A worker thread whose module is run by the main thread, a message a turn of the event loop: what it does to files has its
 * place in the recording.
 */
class InlineThread extends EventEmitter {
  readonly #port = new EventEmitter()

  constructor(module: string, options: { readonly workerData: unknown }) {
    super()
    const parentPort = Object.assign(this.#port, {
      postMessage: (message: unknown) => setImmediate(() => this.emit('message', message)),
    })
    own.push({ parentPort, workerData: options.workerData })
    // Not by import(): how many turns of the event loop that takes depends on the machine.
    require(`${NAME}${pathToFileURL(module).href}?thread=${own.length - 1}`)
  }

  postMessage(message: unknown): void {
    setImmediate(() => this.#port.emit('message', message))
  }

  unref(): void {}

  terminate(): Promise<number> {
    this.#port.removeAllListeners()
    this.removeAllListeners()
    return Promise.resolve(0)
  }
}

Object.assign(threads, { Worker: InlineThread })
syncBuiltinESMExports()
