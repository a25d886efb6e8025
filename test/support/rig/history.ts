/** The byte is beyond the end of the file. */
const ABSENT = -1

type Effect =
  /** Bytes [from, to) are these. */
  | { readonly kind: 'set'; readonly from: number; readonly to: number; valueAt(position: number): number }
  /** Bytes from `from` on are beyond the end. */
  | { readonly kind: 'cut'; readonly from: number }
  /** Bytes below `to` are not beyond the end: zeros where nothing else is. */
  | { readonly kind: 'grow'; readonly to: number }
  /** Bytes [from, to) are zeros if the file reaches so far. */
  | { readonly kind: 'punch'; readonly from: number; readonly to: number }

interface Event {
  readonly effect: Effect
  readonly start: number
  /** Step of the answer; without end for a change that has not been answered, or was answered with an error. */
  end: number
}

/**
 * What a file's bytes can be while several clients read and write it, as a local file system gives it: a change that was
 * answered before a read began is seen unless a later one hides it; one that began after the read was answered is not; of
 * changes under way at the same time each byte shows either.
 */
export class History {
  #events: Event[] = []
  #size: number

  constructor(content: Buffer) {
    this.#size = content.length
    this.#begin(content)
  }

  /** Only with nothing under way: from now on the content is exactly this. */
  settle(content: Buffer): void {
    this.#events = []
    this.#size = content.length
    this.#begin(content)
  }

  /** Size that a client would take for the current one. */
  get sizeNow(): number {
    return this.#size
  }

  get isQuiet(): boolean {
    return this.#events.length === 2
  }

  write(start: number, offset: number, data: Buffer): (end: number | undefined) => void {
    const valueAt = (position: number): number => data[position - offset] ?? 0
    const to = offset + data.length
    this.#size = Math.max(this.#size, to)
    return this.#add(start, { kind: 'grow', to: offset }, { kind: 'set', from: offset, to, valueAt })
  }

  truncate(start: number, size: number): (end: number | undefined) => void {
    this.#size = size
    return this.#add(start, { kind: 'cut', from: size }, { kind: 'grow', to: size })
  }

  grow(start: number, to: number): (end: number | undefined) => void {
    this.#size = Math.max(this.#size, to)
    return this.#add(start, { kind: 'grow', to })
  }

  punch(start: number, from: number, to: number): (end: number | undefined) => void {
    return this.#add(start, { kind: 'punch', from, to })
  }

  /** Why the bytes cannot be what a read of [offset, offset + size) between two steps gave; `undefined` if they can. */
  check(start: number, end: number, offset: number, size: number, bytes: Buffer): string | undefined {
    const limits = new Set([offset, offset + size, offset + bytes.length])
    for (const { effect } of this.#events) {
      for (const limit of ['from' in effect ? effect.from : offset, 'to' in effect ? effect.to : offset]) {
        if (limit > offset && limit < offset + size) limits.add(limit)
      }
    }
    const sorted = [...limits].sort((a, b) => a - b)
    for (const [index, from] of sorted.entries()) {
      const to = sorted[index + 1] ?? from
      const constant = this.#candidates(from, to, start, end)
      for (let position = from; position < to; position += 1) {
        const shown = position < offset + bytes.length ? (bytes[position - offset] ?? 0) : ABSENT
        if (constant.some((value) => (typeof value === 'number' ? value : value(position)) === shown))
          continue
        const possible = constant.map((value) => (typeof value === 'number' ? value : value(position)))
        return `byte ${position} is ${shown}, possible ${[...new Set(possible)]}`
      }
    }
    return undefined
  }

  #begin(content: Buffer): void {
    const valueAt = (position: number): number => content[position] ?? 0
    this.#events.push(
      { effect: { kind: 'cut', from: content.length }, start: -2, end: -2 },
      { effect: { kind: 'set', from: 0, to: content.length, valueAt }, start: -2, end: -2 },
    )
  }

  #add(start: number, ...effects: Effect[]): (end: number | undefined) => void {
    const events = effects.map((effect): Event => ({ effect, start, end: Number.POSITIVE_INFINITY }))
    this.#events.push(...events)
    return (end) => {
      for (const event of events) event.end = end ?? Number.POSITIVE_INFINITY
    }
  }

  /** All that the bytes [from, to) can be, between which no effect begins or ends. */
  #candidates(
    from: number,
    to: number,
    start: number,
    end: number,
  ): Array<number | ((position: number) => number)> {
    const begun = this.#events.filter((event) => event.start <= end)
    const covers = ({ effect }: Event): boolean => {
      if (effect.kind === 'set' || effect.kind === 'punch') return effect.from <= from && to <= effect.to
      return effect.kind === 'cut' ? effect.from <= from : to <= effect.to
    }
    const here = begun.filter(covers)
    const after = (later: Event, earlier: Event): boolean => later.start > earlier.end
    const seen = (event: Event): boolean => event.end < start
    const found: Array<number | ((position: number) => number)> = []
    const last = here.filter(({ effect }) => effect.kind === 'set' || effect.kind === 'cut')
    for (const event of last) {
      if (last.some((other) => after(other, event) && seen(other))) continue
      const changing = (kind: 'grow' | 'punch'): { may: boolean; must: boolean } => {
        const others = here.filter(({ effect }) => effect.kind === kind)
        return {
          may: others.some((other) => !after(event, other)),
          must: others.some((other) => after(other, event) && seen(other)),
        }
      }
      const { effect } = event
      const { may, must } = changing(effect.kind === 'cut' ? 'grow' : 'punch')
      if (may) found.push(0)
      if (must) continue
      found.push(effect.kind === 'set' ? effect.valueAt : ABSENT)
    }
    return found
  }
}
