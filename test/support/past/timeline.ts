/** From when until when something was under way, by the clock of `clockNs`. */
export interface Span {
  readonly from: number
  readonly to: number
}

/**
 * What something was, one after the other, and what of it somebody has seen. Who looks after the end of a look sees what that saw, or
 * newer. Answers come to be judged in any order, so each look counts by its own time.
 */
export class Timeline<State extends Span> {
  #states: State[]
  /** Number of the first state that is left. */
  #first = 0
  #sightings: { readonly nth: number; readonly to: number }[] = []

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
  possible({ from, to }: Span): State[] {
    const seen = this.#seenBefore(from)
    return this.#states.filter((state, index) => this.#first + index >= seen && state.from < to)
  }

  /** A look has met this state, or a newer one. */
  sighted(state: State, { to }: Span): void {
    const index = this.#states.indexOf(state)
    if (index < 0) return
    this.#sightings.push({ nth: this.#first + index, to })
  }

  /** No look that began before that is still to be judged: what cannot be met any more goes. */
  forgetBefore(horizon: number): void {
    const seen = this.#seenBefore(horizon)
    if (seen > this.#first) this.#states.splice(0, seen - this.#first)
    this.#first = Math.max(this.#first, seen)
    this.#sightings = this.#sightings.filter(({ nth, to }) => to > horizon || nth === seen).slice(-200)
  }

  #seenBefore(moment: number): number {
    let nth = this.#first
    for (const sighting of this.#sightings)
      if (sighting.to <= moment && sighting.nth > nth) nth = sighting.nth
    return nth
  }
}
