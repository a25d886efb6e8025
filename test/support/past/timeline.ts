/** From when until when something was under way, by the clock of `clockNs`. */
export interface Span {
  readonly from: number
  readonly to: number
}

interface Sighting {
  readonly nth: number
  readonly to: number
  readonly by: string
}

/**
 * What something was, one after the other, and what of it somebody has seen. Who looks after the end of a look sees what that saw, or
 * newer. Answers come to be judged in any order, so each look counts by its own time. `by`: what was looked at through one thing says
 * nothing of what is seen through another.
 */
export class Timeline<State extends Span> {
  #states: State[]
  /** Number of the first state that is left. */
  #first = 0
  #sightings: Sighting[] = []

  constructor(first: State) {
    this.#states = [first]
  }

  get now(): State {
    const last = this.#states.at(-1)
    if (!last) throw new Error('there is always a last state')
    return last
  }

  become(state: State): void {
    this.#states.push(state)
  }

  /** The states that a look may have met; the oldest first. */
  possible({ from, to }: Span, by = ''): State[] {
    const seen = this.#seenBefore(from, by)
    return this.#states.filter((state, index) => this.#first + index >= seen && state.from < to)
  }

  /** A look has met this state, or a newer one. */
  sighted(state: State, { to }: Span, by = ''): void {
    const index = this.#states.indexOf(state)
    if (index < 0) return
    this.#sightings.push({ nth: this.#first + index, to, by })
  }

  /** No look that began before that is still to be judged: what cannot be met any more goes. */
  forgetBefore(horizon: number): void {
    const seen = this.#seenBefore(horizon, '')
    if (seen > this.#first) this.#states.splice(0, seen - this.#first)
    this.#first = Math.max(this.#first, seen)
    const latest = new Map<string, number>()
    for (const { by, nth, to } of this.#sightings)
      if (to <= horizon) latest.set(by, Math.max(nth, latest.get(by) ?? 0))
    this.#sightings = this.#sightings.filter(({ by, nth, to }) => to > horizon || nth === latest.get(by))
  }

  #seenBefore(moment: number, by: string): number {
    let nth = this.#first
    for (const sighting of this.#sightings)
      if (sighting.by === by && sighting.to <= moment && sighting.nth > nth) nth = sighting.nth
    return nth
  }
}
