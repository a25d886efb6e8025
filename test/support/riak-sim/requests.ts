import type { Quorum } from './bucket-props.ts'
import type { Content, RiakObject } from './object.ts'
import type { BucketKey } from './ring.ts'
import type { VClock } from './vclock.ts'

/** What the request coordinators are asked, and how they answer. */
export interface GetOptions {
  readonly r: Quorum
  readonly pr: Quorum
  readonly basicQuorum?: boolean
  readonly notfoundOk?: boolean
  readonly deletedVclock: boolean
  readonly timeout?: number
  readonly sloppyQuorum?: boolean
  readonly nVal?: number
}

export interface PutOptions {
  readonly w: Quorum
  readonly pw: Quorum
  readonly dw: Quorum
  readonly returnBody: boolean
  readonly timeout?: number
  readonly sloppyQuorum?: boolean
  readonly nVal?: number
}

export interface Put {
  readonly target: BucketKey
  readonly content: Content
  readonly clock: VClock
}

/** `never`: no answer before the request's timeout (60 s where it names none, riak_kv_get_fsm's DEFAULT_TIMEOUT). */
export type GetReply =
  | { readonly kind: 'object'; readonly object: RiakObject }
  | { readonly kind: 'notfound' }
  | { readonly kind: 'deleted'; readonly clock: VClock }
  | { readonly kind: 'error'; readonly reason: string }
  | { readonly kind: 'never' }

export type PutReply =
  | { readonly kind: 'ok'; readonly object?: RiakObject }
  | { readonly kind: 'error'; readonly reason: string }
  | { readonly kind: 'never' }
