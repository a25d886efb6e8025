import type { Socket } from 'node:net'
import { createSecureContext, TLSSocket } from 'node:tls'
import { processingError } from './erlang.ts'
import type { Fault } from './faults.ts'
import { FrameReader } from './frames.ts'
import { decodeMessage, encodeFrame, messageName } from './messages.ts'
import { field, type PbMessage } from './protobuf.ts'
import type { Random } from './random.ts'
import { type Reply, type ServiceContext, serve } from './service.ts'

/** riak_core_security as far as a client meets it: TLS first, then a name and a password. */
export interface Security {
  readonly key: string
  readonly cert: string
  readonly users: Readonly<Record<string, string>>
  /** User → what he may, such as `riak_kv.get`; everything for who is not named. */
  readonly grants?: Readonly<Record<string, readonly string[]>>
}

/** What a request asks of riak_core_security (`{riak_kv, get}` and so on of riak_kv_pb_object and its sisters). */
const PERMISSIONS: Readonly<Record<string, string>> = {
  RpbGetReq: 'riak_kv.get',
  RpbPutReq: 'riak_kv.put',
  RpbDelReq: 'riak_kv.delete',
  RpbListKeysReq: 'riak_kv.list_keys',
  RpbListBucketsReq: 'riak_kv.list_buckets',
  RpbIndexReq: 'riak_kv.index',
  RpbGetBucketReq: 'riak_core.get_bucket',
  RpbSetBucketReq: 'riak_core.set_bucket',
  RpbGetBucketTypeReq: 'riak_core.get_bucket_type',
  DtFetchReq: 'riak_kv.get',
  DtUpdateReq: 'riak_kv.put',
}

/** RpbAuthReq, RpbAuthResp and RpbStartTls; the last is request and answer alike. */
const AUTH_REQUEST = 253
const AUTH_RESPONSE = 254
const START_TLS = 255

/** The recorded lengths of the two errors of which a connection's process dies: a vclock and a body that do not decode. */
const UNDECODABLE_VCLOCK_ERROR = 2196
const UNDECODABLE_BODY_ERROR = 7027

export interface ConnectionHost extends ServiceContext {
  readonly security: Security | undefined
  /** Called for every request that arrives, with its message's name. */
  received(request: string): void
}

/** One client's connection to a node, after riak_api_pb_server.erl: one request at a time, answers in order. */
export class Connection {
  readonly #host: ConnectionHost
  readonly #plain: Socket
  /** The plain one, or TLS over it. */
  #socket: Socket
  readonly #frames = new FrameReader()
  #stage: 'wait_for_tls' | 'wait_for_auth' | 'connected'
  #busy = false
  #user = ''

  constructor(host: ConnectionHost, socket: Socket) {
    this.#host = host
    this.#stage = host.security === undefined ? 'connected' : 'wait_for_tls'
    this.#plain = socket
    this.#socket = socket
    this.#listen(socket)
  }

  #listen(socket: Socket): void {
    socket.setNoDelay(true)
    socket.on('error', () => socket.destroy())
    socket.on('data', (data) => {
      this.#frames.add(data)
      this.#decodeBuffer()
    })
  }

  /** The connection ends, and everything that is still to be sent with it. */
  reset(): void {
    // Of a socket that is about to end libuv refuses the reset, and Node then never lets go of it, nor of the process.
    if (this.#plain.writableEnded || this.#plain.readableEnded) this.#plain.destroy()
    else this.#plain.resetAndDestroy()
  }

  /** decode_buffer/2 */
  #decodeBuffer(): void {
    while (!this.#socket.destroyed && this.#host.state.stateOf(this.#host.node) !== 'paused') {
      const frame = this.#frames.next()
      if (frame === undefined) break
      this.#act(this.#frame(frame))
    }
  }

  /** Looks again at what came in while the node was paused. */
  resume(): void {
    this.#decodeBuffer()
  }

  #frame(frame: Buffer): Action {
    // "Unexpected message format!": the process stops.
    if (frame.length === 0) return { kind: 'close' }
    if (this.#busy) return dies('Cannot send another request while one is in progress')
    const code = frame.readUInt8(0)
    if (this.#stage === 'wait_for_tls') return this.#startTls(code)
    if (this.#stage === 'wait_for_auth') return this.#authenticate(code, frame.subarray(1))
    if (code === START_TLS) return fails('Security not enabled; STARTTLS not allowed.')
    return this.#request(code, frame.subarray(1))
  }

  #startTls(code: number): Action {
    return code === START_TLS ? { kind: 'start-tls' } : fails('Security is enabled, please STARTTLS first')
  }

  #authenticate(code: number, body: Buffer): Action {
    if (code !== AUTH_REQUEST) return fails('Security is enabled, please authenticate first')
    const request = decodeMessage('RpbAuthReq', body)
    this.#user = field.bytes(request, 'user')?.toString() ?? ''
    const password = this.#host.security?.users[this.#user]
    // The real one waits five seconds first, "to make brute-force attempts more annoying".
    if (password === undefined || field.bytes(request, 'password')?.toString() !== password) {
      return fails('Authentication failed')
    }
    this.#stage = 'connected'
    return { kind: 'send', data: Buffer.from([0, 0, 0, 1, AUTH_RESPONSE]) }
  }

  /** connected/2 */
  #request(code: number, body: Buffer): Action {
    const name = messageName(code)
    if (name === undefined) return fails(`Unknown message code: ${code}`)
    let message: PbMessage
    try {
      message = decodeMessage(name, body)
    } catch {
      return dies(processingError('function_clause', UNDECODABLE_BODY_ERROR))
    }
    this.#host.received(name)
    const denied = this.#denied(name, message)
    if (denied !== undefined) return fails(denied)
    const fault = this.#host.state.faults.forRequest(this.#host.node, name)
    if (fault?.kind === 'error') return fails(fault.error ?? 'timeout')
    let reply: Reply | undefined
    try {
      if (fault?.kind === 'twice') serve(this.#host, name, message)
      reply = serve(this.#host, name, message)
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      return dies(processingError(reason, UNDECODABLE_VCLOCK_ERROR))
    }
    if (reply === undefined) return fails(`Unknown message code: ${code}`)
    if ('silence' in reply) return { kind: 'later', milliseconds: reply.silence, data: errorFrame('timeout') }
    return harmed(frames(reply), fault, this.#host.state.random)
  }

  /** riak_core_security:check_permission/2 */
  #denied(name: string, message: PbMessage): string | undefined {
    const permission = PERMISSIONS[name]
    const grants = this.#host.security?.grants?.[this.#user]
    if (permission === undefined || grants === undefined || grants.includes(permission)) return undefined
    const text = (one: string): string | undefined => field.bytes(message, one)?.toString('latin1')
    const bucket = text('bucket')
    const target = [text('type') ?? 'default', ...(bucket === undefined ? [] : [bucket])].join('/')
    return `Permission denied: User '${this.#user}' does not have '${permission}' on ${target}`
  }

  #act(action: Action): void {
    switch (action.kind) {
      case 'send':
        this.#socket.write(action.data)
        break
      case 'close':
        this.#socket.destroy()
        break
      case 'send-and-reset':
        // What is sent has to be on its way before the reset, which throws away what is still queued.
        this.#socket.write(action.data, () => this.reset())
        break
      case 'reset':
        this.reset()
        break
      case 'hang':
        this.#busy = true
        this.#socket.write(action.data)
        break
      case 'later':
        this.#busy = true
        this.#host.state.clock.after(action.milliseconds, () => {
          this.#busy = false
          if (this.#socket.destroyed) return
          this.#socket.write(action.data)
          this.#decodeBuffer()
        })
        break
      case 'start-tls':
        this.#upgrade()
    }
  }

  #upgrade(): void {
    const { security } = this.#host
    if (security === undefined) return
    const plain = this.#plain
    plain.write(Buffer.from([0, 0, 0, 1, START_TLS]))
    plain.removeAllListeners('data')
    const secureContext = createSecureContext({ key: security.key, cert: security.cert })
    this.#socket = new TLSSocket(plain, { isServer: true, secureContext })
    this.#stage = 'wait_for_auth'
    this.#listen(this.#socket)
  }
}

/** What a connection does in the end with a frame that came in. */
type Action =
  | { readonly kind: 'send' | 'send-and-reset' | 'hang'; readonly data: Buffer }
  | { readonly kind: 'later'; readonly data: Buffer; readonly milliseconds: number }
  | { readonly kind: 'close' | 'reset' | 'start-tls' }

const fails = (text: string): Action => ({ kind: 'send', data: errorFrame(text) })

/** send_error_and_flush/2, then `stop`. */
const dies = (text: string): Action => ({ kind: 'send-and-reset', data: errorFrame(text) })

function harmed(data: Buffer, fault: Fault | undefined, random: Random): Action {
  const half = data.subarray(0, Math.ceil(data.length / 2))
  switch (fault?.kind) {
    case 'drop-ack':
      return { kind: 'reset' }
    case 'no-answer':
      return { kind: 'hang', data: Buffer.alloc(0) }
    case 'delay':
      return { kind: 'later', milliseconds: fault.milliseconds ?? 100, data }
    case 'reset':
      return { kind: 'send-and-reset', data: half }
    case 'half-frame':
      return { kind: 'hang', data: half }
    case 'garbage':
      return { kind: 'send', data: Buffer.concat([data.subarray(0, 5), random.bytes(data.length - 5)]) }
    case 'noise':
      return { kind: 'send', data: random.bytes(64) }
    case 'foreign':
      return { kind: 'send', data: encodeFrame('RpbPingResp', {}) }
    default:
      return { kind: 'send', data }
  }
}

function errorFrame(text: string): Buffer {
  return encodeFrame('RpbErrorResp', { errmsg: Buffer.from(text), errcode: 0 })
}

function frames(reply: Exclude<Reply, { readonly silence: number }>): Buffer {
  if ('error' in reply) return errorFrame(reply.error)
  return Buffer.concat(reply.messages.map(([name, fields]) => encodeFrame(name, fields)))
}
