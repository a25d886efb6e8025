import { createRequire, Module } from 'node:module'
import { encodePutRequest } from './put-request.ts'
import type { Quorum } from './url.ts'

/**
 * A typed face on basho-riak-client 2.4.0, which has no types: its commands build the requests (but for the put, see
 * put-request.ts) and read the answers, its protocol buffers decode them. What comes out is checked here, once.
 *
 * The library's connections, nodes and cluster are not used (connection.ts and node.ts are in their place), because
 * they cannot keep what ferryfs promises: bytes that are no answer throw out of a socket's event handler and end the
 * process; TLS does not verify the server's certificate before the password is sent; a closed socket is never destroyed
 * and a node that is down is health-checked on after `stop`, so that a process does not end; a failed request is sent
 * again up to three times, which makes siblings of a put and reports a conditional put as lost that was won; a request
 * times out only in silence, never as a whole, and cannot be cancelled.
 */
export interface RiakContent {
  /** Empty where only the head was asked for, and of a tombstone. */
  readonly value: Buffer
  readonly contentType: string
  readonly usermeta: readonly (readonly [name: string, value: string])[]
  readonly tombstone: boolean
}

/** Siblings with the causal context of all of them; nothing at all where there is no context either. */
export interface RiakAnswer {
  readonly vclock: Buffer | undefined
  /** One with `tombstone` for a key that is deleted and not yet forgotten. */
  readonly contents: readonly RiakContent[]
}

export interface BucketProps {
  readonly nVal: number
  readonly allowMult: boolean
  readonly lastWriteWins: boolean
  readonly backend: string | undefined
  readonly datatype: string | undefined
  readonly consistent: boolean
  readonly writeOnce: boolean
  /** Names of pre-commit hooks: they can refuse or change what is stored. */
  readonly precommit: number
}

export interface BucketName {
  readonly type: string
  readonly bucket: string
}

export interface ObjectName extends BucketName {
  readonly key: string
}

/** One request, ready to be sent, and how to read its answer. */
export interface RiakCommand<T> {
  readonly name: string
  /** Header and body of the frame. */
  readonly parts: readonly Buffer[]
  readonly responseCode: number
  /** Of the longest frame that can be an answer. */
  readonly mostBytes: number
  /** One frame of the answer; `done` with the last. @throws Error for bytes that are no such answer */
  read(body: Buffer): { readonly value: T; readonly done: boolean }
}

/** RpbErrorResp in riak_pb_messages.csv */
export const ERROR_RESPONSE = 0

/** RIAKPB_RW_ONE, _QUORUM and _ALL of riak_pb_kv_codec.hrl: names among the numbers of 32 bits. */
const QUORUM_CODES = { one: 4294967294, quorum: 4294967293, all: 4294967292 } as const

function quorumCode(quorum: Quorum): number {
  return typeof quorum === 'number' ? quorum : QUORUM_CODES[quorum]
}

type Callback = (error: unknown, response: unknown) => void

interface LibraryCommand {
  getRiakMessage(): unknown
  getExpectedResponseCode(): unknown
  onSuccess(message: unknown): unknown
}

interface Library {
  /** A command of the library by its name, made with its options and a callback. */
  command(name: string, options: object | undefined, callback: Callback): LibraryCommand
  decode(code: number, body: Buffer): unknown
}

type Constructor = new (...parameters: unknown[]) => unknown

function isRecord(value: unknown): value is Record<string, unknown> {
  return (typeof value === 'object' && value !== null) || typeof value === 'function'
}

function isConstructor(value: unknown): value is Constructor {
  return typeof value === 'function'
}

function isCallable(value: unknown): value is (...parameters: unknown[]) => unknown {
  return typeof value === 'function'
}

function isLibraryCommand(value: unknown): value is LibraryCommand {
  return (
    isRecord(value) &&
    ['getRiakMessage', 'getExpectedResponseCode', 'onSuccess'].every((name) => isCallable(value[name]))
  )
}

function member(value: unknown, ...path: readonly string[]): unknown {
  let found = value
  for (const name of path) {
    if (!isRecord(found)) throw new Error(`basho-riak-client has no ${path.join('.')}; install version 2.4.0`)
    found = found[name]
  }
  return found
}

function constructorAt(value: unknown, ...path: readonly string[]): Constructor {
  const found = member(value, ...path)
  if (!isConstructor(found))
    throw new Error(`basho-riak-client has no ${path.join('.')}; install version 2.4.0`)
  return found
}

let loaded: Library | undefined

/** Loaded on first use: it takes a tenth of a second and parses its protocol files. */
function library(): Library {
  loaded ??= load()
  return loaded
}

function load(): Library {
  const require = createRequire(import.meta.url)
  const commands: unknown = withoutWinston(require, () => require('basho-riak-client')).Commands
  const authRequest: unknown = require('basho-riak-client/lib/core/authreq')
  const startTls: unknown = require('basho-riak-client/lib/core/starttls')
  const protobuf: unknown = require('basho-riak-client/lib/protobuf/riakprotobuf')
  const getProtoFor = member(protobuf, 'getProtoFor')
  if (!isCallable(getProtoFor)) throw new Error('basho-riak-client has no getProtoFor; install version 2.4.0')

  const constructors: Readonly<Record<string, Constructor>> = {
    Ping: constructorAt(commands, 'Ping'),
    FetchServerInfo: constructorAt(commands, 'FetchServerInfo'),
    FetchValue: constructorAt(commands, 'KV', 'FetchValue'),
    StoreValue: constructorAt(commands, 'KV', 'StoreValue'),
    DeleteValue: constructorAt(commands, 'KV', 'DeleteValue'),
    ListKeys: constructorAt(commands, 'KV', 'ListKeys'),
    FetchBucketProps: constructorAt(commands, 'KV', 'FetchBucketProps'),
    FetchBucketTypeProps: constructorAt(commands, 'KV', 'FetchBucketTypeProps'),
    StoreBucketProps: constructorAt(commands, 'KV', 'StoreBucketProps'),
    FetchSet: constructorAt(commands, 'CRDT', 'FetchSet'),
    AuthReq: constructorAt({ authRequest }, 'authRequest'),
    StartTls: constructorAt({ startTls }, 'startTls'),
  }
  return {
    command(name, options, callback) {
      const Command = constructorAt(constructors, name)
      const command = new Command(...[options, callback].filter((parameter) => parameter !== undefined))
      if (!isLibraryCommand(command))
        throw new Error(`basho-riak-client: ${name} is no command; install version 2.4.0`)
      return command
    },
    decode(code, body) {
      // The library hands `null` to a command for an answer of nothing but its code.
      if (body.length === 0) return null
      const decode = member(getProtoFor(code), 'decode')
      if (!isCallable(decode)) throw new Error(`no message of code ${code}`)
      return decode(body)
    },
  }
}

/**
 * Loads the library with something silent in the place of winston 2, which would write to the console, costs more to load
 * than the rest, and makes Node print a warning about itself.
 */
function withoutWinston(require: NodeJS.Require, run: () => unknown): Record<string, unknown> {
  const path = createRequire(require.resolve('basho-riak-client')).resolve('winston')
  const silent = new Module(path)
  const nothing = (): void => undefined
  silent.exports = { debug: nothing, info: nothing, warn: nothing, error: nothing }
  silent.loaded = true
  require.cache[path] = silent
  try {
    const result = run()
    if (!isRecord(result)) throw new Error('basho-riak-client exports nothing; install version 2.4.0')
    return result
  } finally {
    delete require.cache[path]
  }
}

type Answers<T> = Pick<RiakCommand<T>, 'responseCode' | 'read' | 'mostBytes'>

// A value of 50 MiB (Riak's largest by default) with room for siblings.
const VALUE_BYTES = 128 * 1024 * 1024
// Everything else: properties, heads of siblings, a part of a list of keys.
const OTHER_BYTES = 4 * 1024 * 1024

function build<T>(
  name: string,
  options: object | undefined,
  convert: (response: unknown) => T,
  isDone?: (response: unknown) => boolean,
): RiakCommand<T> {
  const command = new ReadBack(name, options)
  const message = command.command.getRiakMessage()
  const parts = [member(message, 'header'), member(message, 'protobuf')].filter((part) =>
    Buffer.isBuffer(part),
  )
  return { name, parts, ...command.answers(convert, isDone) }
}

/** How answers to a command are read, for one whose request is made otherwise. */
function answersOf<T>(name: string, options: object, convert: (response: unknown) => T): Answers<T> {
  return new ReadBack(name, options).answers(convert)
}

/** A command of the library, and what it makes of an answer. */
class ReadBack {
  readonly command: LibraryCommand
  readonly #name: string
  #answer: { error: unknown; response: unknown } | undefined

  constructor(name: string, options: object | undefined) {
    this.#name = name
    this.command = library().command(name, options, (error, response) => {
      this.#answer = { error, response }
    })
  }

  answers<T>(
    convert: (response: unknown) => T,
    isDone: (response: unknown) => boolean = () => true,
  ): Answers<T> {
    const responseCode = Number(this.command.getExpectedResponseCode())
    return {
      responseCode,
      mostBytes: OTHER_BYTES,
      read: (body) => {
        const response = this.#read(library().decode(responseCode, body))
        return { value: convert(response), done: isDone(response) }
      },
    }
  }

  #read(message: unknown): unknown {
    this.#answer = undefined
    const isUnderstood = this.command.onSuccess(message) === true
    // The commands of the handshake keep their callback to themselves.
    if (this.#answer === undefined && isUnderstood) return undefined
    const { error, response } = this.#answer ?? {
      error: new Error(`${this.#name}: the answer makes no sense`),
      response: undefined,
    }
    if (error) throw error
    return response
  }
}

/** The text of an RpbErrorResp. @throws Error for bytes that are none */
export function readErrorMessage(body: Buffer): string {
  const errmsg = member(library().decode(ERROR_RESPONSE, body), 'errmsg')
  const toText = member(errmsg, 'toString')
  if (!isCallable(toText)) throw new Error('an error without a text')
  // The library's own byte buffer: its toString wants the encoding.
  return String(toText.call(errmsg, 'utf8'))
}

const nothing = (): undefined => undefined

export function ping(): RiakCommand<undefined> {
  return build('Ping', undefined, nothing)
}

/** Begins TLS; the answer is the sign to start the handshake. */
export function startTls(): RiakCommand<undefined> {
  return build('StartTls', undefined, nothing)
}

export function authenticate(user: string, password: string): RiakCommand<undefined> {
  return build('AuthReq', { user, password }, nothing)
}

export interface ServerInfo {
  readonly node: string
  readonly version: string
}

export function serverInfo(): RiakCommand<ServerInfo> {
  return build('FetchServerInfo', undefined, (response) => {
    return { node: String(member(response, 'node')), version: String(member(response, 'server_version')) }
  })
}

export interface FetchOptions {
  readonly r: Quorum
  /** So many of the answers have to come from owners of the key, not from stand-ins. */
  readonly pr?: Quorum | undefined
  /** An empty replica counts as an answer. */
  readonly notfoundOk: boolean
  /** Everything but the values. */
  readonly head: boolean
  /** What the coordinator waits for its replicas, in milliseconds. */
  readonly timeoutMs: number
}

/** Reads an object; the context of a tombstone always comes with it. */
export function fetch({ type, bucket, key }: ObjectName, options: FetchOptions): RiakCommand<RiakAnswer> {
  const request = {
    bucketType: type,
    bucket,
    key: Buffer.from(key),
    r: quorumCode(options.r),
    ...(options.pr !== undefined && { pr: quorumCode(options.pr) }),
    notFoundOk: options.notfoundOk,
    headOnly: options.head,
    returnDeletedVClock: true,
    timeout: options.timeoutMs,
  }
  const command = build('FetchValue', request, toAnswer)
  return options.head ? command : { ...command, mostBytes: VALUE_BYTES }
}

export interface StoreOptions {
  readonly w: Quorum
  readonly dw: Quorum
  /** So many owners of the key, not stand-ins, must have received it. */
  readonly pw?: Quorum | undefined
  readonly timeoutMs: number
}

export interface ContentToStore {
  readonly value: Buffer
  readonly contentType: string
  readonly usermeta: RiakContent['usermeta']
}

/** Writes an object under a causal context; the answer has the heads of all siblings that there are now. */
export function store(
  name: ObjectName,
  content: ContentToStore,
  vclock: Buffer | undefined,
  options: StoreOptions,
): RiakCommand<RiakAnswer> {
  const parts = encodePutRequest({
    name,
    content,
    vclock,
    w: quorumCode(options.w),
    dw: quorumCode(options.dw),
    pw: options.pw === undefined ? undefined : quorumCode(options.pw),
    timeoutMs: options.timeoutMs,
  })
  storeAnswers ??= answersOf('StoreValue', { bucketType: 'any', bucket: 'any', value: '' }, toStored)
  return { name: 'StoreValue', parts, ...storeAnswers }
}

/** Reads the answers to all puts: what they are about is in none of them. */
let storeAnswers: Answers<RiakAnswer> | undefined

/** What a put to a `write_once` type looks like, and now and then one that was damaged on the way. */
export const NO_HEAD =
  'a put is acknowledged without the head that was asked for (has the bucket type write_once?)'

function toStored(response: unknown): RiakAnswer {
  const answer = toAnswer(response)
  // The head was asked for: an answer without one is no acknowledgement.
  if (answer.contents.length === 0) throw new Error(NO_HEAD)
  return answer
}

/** Puts a tombstone in the place of everything that the causal context has seen. */
export function remove(
  { type, bucket, key }: ObjectName,
  vclock: Buffer,
  { w, dw, timeoutMs }: StoreOptions,
): RiakCommand<undefined> {
  const request = {
    bucketType: type,
    bucket,
    key: Buffer.from(key),
    vclock,
    w: quorumCode(w),
    dw: quorumCode(dw),
    timeout: timeoutMs,
  }
  return build('DeleteValue', request, nothing)
}

/** Every key of a bucket, in as many answers as the cluster likes. Reads through all partitions: not for daily use. */
export function listKeys({ type, bucket }: BucketName): RiakCommand<readonly string[]> {
  const isDone = (response: unknown): boolean => member(response, 'done') === true
  const toKeys = (response: unknown): string[] => {
    const keys = member(response, 'keys')
    return Array.isArray(keys) ? keys.map(String) : []
  }
  return build('ListKeys', { bucketType: type, bucket, stream: true }, toKeys, isDone)
}

export function bucketProps({ type, bucket }: BucketName): RiakCommand<BucketProps> {
  return withWriteOnce(build('FetchBucketProps', { bucketType: type, bucket }, toBucketProps))
}

export function bucketTypeProps(type: string): RiakCommand<BucketProps> {
  return withWriteOnce(build('FetchBucketTypeProps', { bucketType: type }, toBucketProps))
}

/** The library decodes this property and hands out all the others. */
function withWriteOnce(command: RiakCommand<BucketProps>): RiakCommand<BucketProps> {
  const read = (body: Buffer): { value: BucketProps; done: boolean } => {
    const { value, done } = command.read(body)
    const message = library().decode(command.responseCode, body)
    return { value: { ...value, writeOnce: member(message, 'props', 'write_once') === true }, done }
  }
  return { ...command, read }
}

/** Asks for a set: answered where the type has a datatype, whichever, and an error where it takes plain objects. */
export function fetchDatatype({ type, bucket, key }: ObjectName): RiakCommand<undefined> {
  return build('FetchSet', { bucketType: type, bucket, key }, nothing)
}

/** Has a bucket keep siblings, which an untyped one does not by itself. */
export function keepSiblings({ type, bucket }: BucketName): RiakCommand<undefined> {
  return build(
    'StoreBucketProps',
    { bucketType: type, bucket, allowMult: true, lastWriteWins: false },
    nothing,
  )
}

function toAnswer(response: unknown): RiakAnswer {
  const vclock = member(response, 'vclock')
  const values = member(response, 'values')
  return {
    vclock: Buffer.isBuffer(vclock) && vclock.length > 0 ? vclock : undefined,
    contents: Array.isArray(values) ? values.map(toContent) : [],
  }
}

function toContent(content: unknown): RiakContent {
  const value = member(content, 'value')
  const tombstone = member(content, 'isTombstone') === true
  const userMeta = member(content, 'userMeta')
  if (!tombstone && !Buffer.isBuffer(value)) throw new Error('a content without a value')
  return {
    value: Buffer.isBuffer(value) ? value : Buffer.alloc(0),
    contentType: String(member(content, 'contentType')),
    usermeta: Array.isArray(userMeta)
      ? userMeta.map((pair: unknown) => [String(member(pair, 'key')), String(member(pair, 'value'))] as const)
      : [],
    tombstone,
  }
}

function toBucketProps(response: unknown): BucketProps {
  const text = (name: string): string | undefined => {
    const value = member(response, name)
    return typeof value === 'string' ? value : undefined
  }
  const precommit = member(response, 'precommit')
  return {
    nVal: Number(member(response, 'nVal')),
    allowMult: member(response, 'allowMult') === true,
    lastWriteWins: member(response, 'lastWriteWins') === true,
    backend: text('backend'),
    datatype: text('dataType'),
    consistent: member(response, 'consistent') === true,
    writeOnce: false,
    precommit: Array.isArray(precommit) ? precommit.length : 0,
  }
}
