import { REQUEST_HEADROOM } from './protocol.ts'

/** Memory that one request is read into. */
export interface RequestBuffer {
  readonly bytes: Buffer
  readonly view: DataView
}

/** Request buffers, made on demand up to a limit and used again. */
export class BufferPool {
  readonly #size: number
  readonly #limit: number
  readonly #free: RequestBuffer[] = []
  #made = 0

  /** `limit` buffers for requests with up to `maxWrite` bytes of data. */
  constructor(maxWrite: number, limit: number) {
    this.#size = maxWrite + REQUEST_HEADROOM
    this.#limit = limit
  }

  /** How many more requests could be read. */
  get left(): number {
    return this.#free.length + this.#limit - this.#made
  }

  /** `undefined` when all are in use. */
  take(): RequestBuffer | undefined {
    const free = this.#free.pop()
    if (free || this.#made >= this.#limit) return free
    this.#made += 1
    const memory = new ArrayBuffer(this.#size)
    return { bytes: Buffer.from(memory), view: new DataView(memory) }
  }

  give(buffer: RequestBuffer): void {
    this.#free.push(buffer)
  }
}
