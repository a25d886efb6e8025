import { EventEmitter } from 'node:events'
import { createRequire, syncBuiltinESMExports } from 'node:module'
import threads from 'node:worker_threads'

const realRequire = createRequire(import.meta.url)

/**
 * A worker thread whose script is run by the main thread, a message a turn of the event loop: what it does to files has its
 * place in the recording.
 */
class InlineThread extends EventEmitter {
  readonly #port = new EventEmitter()

  constructor(script: string, options: { readonly workerData: unknown }) {
    super()
    const parentPort = Object.assign(this.#port, {
      postMessage: (message: unknown) => setImmediate(() => this.emit('message', message)),
    })
    const require = (name: string): unknown =>
      name === 'node:worker_threads' ? { parentPort, workerData: options.workerData } : realRequire(name)
    new Function('require', script)(require)
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
