import { StoreError, StoreRejected, StoreTimeout, StoreUnavailable } from '../errors.ts'

/** What an operation does about a failure. */
export interface Verdict {
  /** Which error the caller of the store gets. */
  readonly as: 'timeout' | 'unavailable' | 'rejected'
  /** A write may have taken effect, on some replica at least. */
  readonly outcomeUnknown: boolean
  /** Counts against the node in its circuit breaker: the node is ill, not the request. */
  readonly nodeIsIll: boolean
  /** What an operator does about it. */
  readonly advice?: string
}

const unavailable: Verdict = { as: 'unavailable', outcomeUnknown: false, nodeIsIll: false }
const unavailableUnknown: Verdict = { ...unavailable, outcomeUnknown: true }
const rejected: Verdict = { as: 'rejected', outcomeUnknown: false, nodeIsIll: false }

const rejectedWith = (advice: string): Verdict => ({ ...rejected, advice })

const MISSING_TYPE = rejectedWith(
  'create and activate the bucket type; `ferryfs doctor --store URL` prints the commands',
)
const QUORUM_TOO_HIGH = rejectedWith(
  "r, w or dw is more than the bucket type's n_val: lower it in the store URL",
)

/**
 * Every error that Riak sends as text (RpbErrorResp; errcode is 0 throughout), by the first pattern that fits. The texts
 * are Erlang terms out of riak_kv_get_core, riak_kv_put_core, riak_kv_get_fsm, riak_kv_put_fsm, riak_kv_vnode,
 * riak_kv_pb_object, riak_kv_pb_bucket and riak_api_pb_server.
 */
const RIAK_ERRORS: readonly (readonly [RegExp, Verdict])[] = [
  // The coordinator waited in vain; a put may be on some replicas.
  [/^timeout$/, { as: 'timeout', outcomeUnknown: true, nodeIsIll: true }],
  [/^(overload|mailbox_overload)$/, { ...unavailableUnknown, nodeIsIll: true }],
  [/^all_nodes_down$/, { ...unavailable, nodeIsIll: true }],
  // A node that has just started answers pings for some seconds before it knows of any vnode.
  [/^\{insufficient_(vnodes|nodes),0,/, { ...unavailable, nodeIsIll: true }],
  // Checked before anything is sent to a replica.
  [/^\{insufficient_(vnodes|nodes),/, unavailable],
  [/^insufficient_vnodes_available$/, unavailable],
  [/^\{(pr|r)_val_unsatisfied,/, unavailable],
  // May come after some replicas have written.
  [/^\{(pw|w|dw|node_confirms)_val_unsatisfied,/, unavailableUnknown],
  [/^\{n_val_violation,/, QUORUM_TOO_HIGH],
  [/^\{(r|w|pr|pw|dw|rw|node_confirms)_val_violation,/, QUORUM_TOO_HIGH],
  [/^\{too_large,/, rejectedWith("the value is over the cluster's object.size.maximum")],
  // Goes away once a put with the context of all siblings replaces them, and the next try sends that.
  [/^\{too_many_siblings,/, unavailable],
  // Answers to conditional puts; nothing was written.
  [/^(match_found|modified|notfound)$/, unavailable],
  [/^no_type$/, MISSING_TYPE],
  [/^No bucket-type named /, MISSING_TYPE],
  [/^Invalid bucket type: /, MISSING_TYPE],
  [/^Invalid bucket properties: /, rejected],
  [/^(Key|Bucket|Type) cannot be zero-length$/, rejected],
  [/^key_too_large$/, rejected],
  [
    /^(\{precommit_fail|precommit_fail)/,
    rejectedWith('a pre-commit hook of the bucket type refuses the object: remove it'),
  ],
  [/^Permission denied: /, rejectedWith('docs/riak.md lists the grants that ferryfs needs')],
  [/^Security is enabled/, rejectedWith('the cluster wants TLS: add tls=true and user= to the store URL')],
  [
    /^Security not enabled/,
    rejectedWith('the cluster has its security switched off: take tls=true out of the store URL'),
  ],
  [/^Authentication failed$/, rejectedWith('user, password or certificate is wrong')],
  [
    /^Operation '.*' is not enabled$/,
    rejectedWith('the cluster has this request switched off (job classes in riak.conf)'),
  ],
  [
    /^Unknown message code: /,
    rejectedWith('the server does not know this request: is it Riak KV 2.0 or later?'),
  ],
  [/^Message decoding error: /, rejected],
  // The server's process died of the request and closed the connection.
  [/^Error processing (incoming|stream) message: /, { ...unavailableUnknown, nodeIsIll: true }],
  [/^Cannot send another request while one is in progress$/, unavailableUnknown],
]

/** A text that no release has been seen to send: nothing is known of the outcome. */
const UNKNOWN_TEXT: Verdict = unavailableUnknown

export function verdictOf(errmsg: string): Verdict {
  const grant = missingGrant(errmsg)
  if (grant !== undefined) return rejectedWith(grant)
  return RIAK_ERRORS.find(([pattern]) => pattern.test(errmsg))?.[1] ?? UNKNOWN_TEXT
}

/** The line to type for a permission that is missing. What it is about may be `TYPE` or `TYPE/BUCKET`. */
function missingGrant(errmsg: string): string | undefined {
  const denied = /^Permission denied: User '(.+)' does not have '([\w.]+)' on ([^/\s]+)/.exec(errmsg)
  if (denied === null) return undefined
  const [, user = '', permission = '', type = ''] = denied
  return `riak admin security grant ${permission} on ${type} to ${user}`
}

/** Riak answered with an error. */
export class RiakError extends Error {
  readonly errmsg: string
  readonly verdict: Verdict

  constructor(node: string, errmsg: string) {
    const text = errmsg.length > 200 ? `${errmsg.slice(0, 200)}…` : errmsg
    const verdict = verdictOf(errmsg)
    super(`${node} answers ${text}${verdict.advice === undefined ? '' : ` (${verdict.advice})`}`)
    this.name = 'RiakError'
    this.errmsg = errmsg
    this.verdict = verdict
  }
}

/** The connection failed a request: refused, closed, silent, or what came over it is no answer. */
export class TransportError extends Error {
  readonly verdict: Verdict

  constructor(message: string, verdict: Partial<Verdict>, options?: ErrorOptions) {
    super(message, options)
    this.name = 'TransportError'
    this.verdict = { as: 'unavailable', outcomeUnknown: true, nodeIsIll: true, ...verdict }
  }

  /** Nothing was sent. */
  static unsent(message: string, options?: ErrorOptions): TransportError {
    return new TransportError(message, { outcomeUnknown: false }, options)
  }

  /** It was the end of somebody's time that ended it. */
  get ranOut(): boolean {
    return this.verdict.as === 'timeout' || (this.cause instanceof TransportError && this.cause.ranOut)
  }
}

/** The verdict on anything thrown on the way to an answer. */
export function verdictOn(error: unknown): Verdict | undefined {
  return error instanceof RiakError || error instanceof TransportError ? error.verdict : undefined
}

/**
 * The error that the store's caller gets. `outcomeUnknown`: some write of the operation may have taken effect, whatever it
 * was that failed in the end.
 */
export function toStoreError(what: string, error: unknown, outcomeUnknown: boolean): StoreError {
  if (error instanceof StoreError) return error
  const verdict = verdictOn(error) ?? UNKNOWN_TEXT
  const reason = error instanceof Error ? error.message : String(error)
  const message = `${what}: ${reason}`
  const options = { cause: error }
  if (verdict.as === 'rejected' && !outcomeUnknown) return new StoreRejected(message, options)
  if (verdict.as === 'timeout') return new StoreTimeout(message, options)
  return new StoreUnavailable(message, { ...options, outcomeUnknown })
}
