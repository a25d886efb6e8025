/** A promise was broken. */
export class Violation extends Error {
  /** The end of the daemon's log, once the session knows it. */
  log = ''
}
