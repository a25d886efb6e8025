import type { Random } from './random.ts'

/**
 * Harm on purpose, drawn from the cluster's seed.
 *
 * On the way back to the client, each after the request took effect: `drop-ack` resets the connection instead of
 * answering, `no-answer` keeps it open in silence, `delay` answers later, `reset` and `half-frame` send the first half of
 * the answer and then reset or fall silent, `garbage` sends a frame of the right kind and length with noise in it, `noise`
 * nothing else, `foreign` a message of another kind.
 *
 * `twice` carries the request out two times, as after a delivery in duplicate, and answers once.
 *
 * `error` answers with `error` and does nothing. `lose-write` has a vnode acknowledge a write that it then does not
 * hold (a stale replica). `corrupt` flips a bit of the value that a vnode reads.
 */
export interface Fault {
  readonly kind:
    | 'drop-ack'
    | 'no-answer'
    | 'delay'
    | 'reset'
    | 'half-frame'
    | 'garbage'
    | 'noise'
    | 'foreign'
    | 'error'
    | 'twice'
    | 'lose-write'
    | 'corrupt'
  /** Only on the node of this name; on all without it. */
  readonly node?: string
  /** Only for these requests, e.g. `RpbPutReq`; for all without it. Not for `lose-write` and `corrupt`. */
  readonly requests?: readonly string[]
  /** Only on vnodes of these partitions (`lose-write`, `corrupt`); on all without it. */
  readonly partitions?: readonly number[]
  /** Only for keys that contain this text (`lose-write`, `corrupt`). */
  readonly key?: string
  /** In how many of all cases; 1 without it. */
  readonly probability?: number
  /** How often at most; without it, until removed. */
  readonly times?: number
  /** For `delay`. */
  readonly milliseconds?: number
  /** For `error`: the errmsg. */
  readonly error?: string
}

interface Active {
  readonly fault: Fault
  left: number
}

export class Faults {
  readonly #random: Random
  #active: Active[] = []

  constructor(random: Random) {
    this.#random = random
  }

  /** Puts a fault in force; the function returned takes it away again. */
  inject(fault: Fault): () => void {
    const entry = { fault, left: fault.times ?? Number.POSITIVE_INFINITY }
    this.#active.push(entry)
    return () => {
      this.#active = this.#active.filter((other) => other !== entry)
    }
  }

  clear(): void {
    this.#active = []
  }

  /** The fault that hits this request, if any. */
  forRequest(node: string, request: string): Fault | undefined {
    return this.#draw(({ fault }) => {
      const { kind, requests } = fault
      return (
        kind !== 'lose-write' &&
        kind !== 'corrupt' &&
        (requests?.includes(request) ?? true) &&
        here(fault, node)
      )
    })
  }

  /** Whether a vnode's write or read of this key goes wrong in this way. */
  hitsVnode(
    kind: 'lose-write' | 'corrupt',
    { node, partition }: { readonly node: string; readonly partition: number },
    id: string,
  ): boolean {
    const hit = this.#draw(
      ({ fault }) =>
        fault.kind === kind &&
        here(fault, node) &&
        (fault.partitions?.includes(partition) ?? true) &&
        id.includes(fault.key ?? ''),
    )
    return hit !== undefined
  }

  #draw(matches: (entry: Active) => boolean): Fault | undefined {
    for (const entry of this.#active) {
      if (entry.left < 1 || !matches(entry)) continue
      const { probability = 1 } = entry.fault
      if (probability < 1 && this.#random.next() >= probability) continue
      entry.left--
      return entry.fault
    }
    return undefined
  }
}

function here(fault: Fault, node: string): boolean {
  return fault.node === undefined || fault.node === node
}
