/**
 * The five ways in which a store fails. `retryable`: the same request may succeed later. `outcomeUnknown`: a write
 * may have taken effect all the same, so the caller reads before it concludes anything.
 */
export abstract class StoreError extends Error {
  abstract readonly retryable: boolean
  abstract readonly outcomeUnknown: boolean

  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
  }
}

/** Nothing was stored or read: refused, no node up, quorum not to be had, expected object not to be found. */
export class StoreUnavailable extends StoreError {
  readonly retryable = true
  readonly outcomeUnknown: boolean

  constructor(message: string, options?: ErrorOptions & { outcomeUnknown?: boolean }) {
    super(message, options)
    this.outcomeUnknown = options?.outcomeUnknown ?? false
  }
}

/** No answer within the time given. */
export class StoreTimeout extends StoreError {
  readonly retryable = true
  readonly outcomeUnknown = true
}

/** The store will never accept this request: too large, bad key, no such bucket type, no permission. */
export class StoreRejected extends StoreError {
  readonly retryable = false
  readonly outcomeUnknown = false
}

/** What came back is not what was stored: a checksum or a format does not hold. */
export class StoreCorrupt extends StoreError {
  readonly retryable = false
  readonly outcomeUnknown = false
}

/** A newer version is there: this writer lost the namespace, or repeats an old write. */
export class StoreSuperseded extends StoreError {
  readonly retryable = false
  readonly outcomeUnknown = false
}
