import { readFileSync } from 'node:fs'
import { UsageError } from '../../base/errors.ts'

/** How many replicas have to agree, by Riak's names or as a number. */
export type Quorum = 'one' | 'quorum' | 'all' | number

export interface NodeAddress {
  readonly host: string
  readonly port: number
}

/** What Riak's security asks for: TLS first, then a user with a password or a client certificate. */
export interface TlsOptions {
  readonly user: string
  readonly password: string
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
}

export interface RiakOptions {
  readonly nodes: readonly NodeAddress[]
  /** Bucket type; `default` means buckets without a type. */
  readonly type: string
  readonly r: Quorum
  readonly w: Quorum
  readonly dw: Quorum
  /** For one operation with everything that it tries, in milliseconds. */
  readonly timeoutMs: number
  /** Connections to one node at once, at most. */
  readonly connections: number
  readonly tls: TlsOptions | undefined
  /** The URL again, in one form and without secrets. */
  readonly url: string
}

/** Riak's port for protocol buffers (riak.conf: listener.protobuf.internal). */
const DEFAULT_PORT = 8087
const DEFAULT_TIMEOUT_MS = 10_000
/** Enough for the concurrency of an upload on three nodes; Riak accepts far more. */
const DEFAULT_CONNECTIONS = 16

const PARAMETERS = [
  'type',
  'r',
  'w',
  'dw',
  'timeout',
  'connections',
  'tls',
  'ca',
  'cert',
  'key',
  'user',
  'passwordFile',
] as const
type Parameter = (typeof PARAMETERS)[number]

const EXAMPLE = 'riak://host1:8087,host2:8087/?type=ferryfs'
const PASSWORD_ADVICE = 'name a file with passwordFile=/path or set FERRYFS_RIAK_PASSWORD'

/**
 * Reads a `riak://` URL. The WHATWG parser knows one host only, so the list of hosts is read here.
 * @throws UsageError that names the part and never repeats what may be a secret
 */
export function parseRiakUrl(url: string, environment: NodeJS.ProcessEnv = process.env): RiakOptions {
  const match = /^riak:\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?$/.exec(url)
  if (match === null) throw new UsageError(`a Riak store is written ${EXAMPLE}`)
  const [, authority = '', path = '', query = '', fragment] = match
  if (authority.includes('@')) {
    throw new UsageError(
      `--store riak://…: no name or password before the hosts: give user= and ${PASSWORD_ADVICE}`,
    )
  }
  if ((path !== '' && path !== '/') || fragment !== undefined) {
    throw new UsageError(`--store riak://…: after the hosts come only "/?" and parameters, as in ${EXAMPLE}`)
  }
  const nodes = parseNodes(authority)
  const given = parseParameters(query)
  return {
    nodes,
    type: parseType(given.get('type')),
    r: parseQuorum('r', given.get('r')),
    w: parseQuorum('w', given.get('w')),
    dw: parseQuorum('dw', given.get('dw')),
    timeoutMs: parseNumber('timeout', given.get('timeout'), DEFAULT_TIMEOUT_MS, [100, 600_000]),
    connections: parseNumber('connections', given.get('connections'), DEFAULT_CONNECTIONS, [1, 1024]),
    tls: parseTls(given, environment),
    url: `riak://${nodes.map(describeNode).join(',')}/${canonicalQuery(given)}`,
  }
}

export function describeNode({ host, port }: NodeAddress): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}

function refuse(parameter: string, why: string): UsageError {
  return new UsageError(`--store riak://…: ${parameter} ${why}`)
}

function parseNodes(authority: string): NodeAddress[] {
  const nodes = authority.split(',').map((text): NodeAddress => {
    const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?$/.exec(text)
    const port = Number(match?.[3] ?? DEFAULT_PORT)
    if (match === null || port < 1 || port > 65_535) {
      throw refuse(`host ${JSON.stringify(text)}`, `is not HOST or HOST:PORT; write ${EXAMPLE}`)
    }
    return { host: match[1] ?? match[2] ?? '', port }
  })
  const names = nodes.map(describeNode)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw refuse(`host ${twice}`, 'is there twice')
  return nodes
}

function isParameter(name: string): name is Parameter {
  return PARAMETERS.some((one) => one === name)
}

function parseParameters(query: string): Map<Parameter, string> {
  const given = new Map<Parameter, string>()
  for (const [name, value] of new URLSearchParams(query)) {
    if (name.toLowerCase() === 'password')
      throw refuse('password', `does not belong in a URL: ${PASSWORD_ADVICE}`)
    if (!isParameter(name))
      throw refuse(JSON.stringify(name), `is unknown; known are ${PARAMETERS.join(', ')}`)
    if (given.has(name)) throw refuse(name, 'is given twice')
    if (value === '') throw refuse(name, 'has no value')
    given.set(name, value)
  }
  return given
}

function parseType(text = 'default'): string {
  if (!/^[\x21-\x7e]{1,255}$/.test(text))
    throw refuse('type', `${JSON.stringify(text)} is no name of a bucket type`)
  return text
}

function parseQuorum(name: Parameter, text = 'quorum'): Quorum {
  if (text === 'one' || text === 'quorum' || text === 'all') return text
  if (/^[1-9]\d?$/.test(text)) return Number(text)
  throw refuse(name, `${JSON.stringify(text)} is none of one, quorum, all or a number from 1`)
}

function parseNumber(
  name: Parameter,
  text: string | undefined,
  byDefault: number,
  [least, most]: readonly [number, number],
): number {
  if (text === undefined) return byDefault
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (number >= least && number <= most) return number
  throw refuse(name, `${JSON.stringify(text)} is no whole number from ${least} to ${most}`)
}

function parseTls(
  given: ReadonlyMap<Parameter, string>,
  environment: NodeJS.ProcessEnv,
): TlsOptions | undefined {
  const tls = given.get('tls') ?? 'false'
  if (tls !== 'true' && tls !== 'false')
    throw refuse('tls', `${JSON.stringify(tls)} is neither true nor false`)
  if (tls === 'false') {
    const alone = (['ca', 'cert', 'key', 'user', 'passwordFile'] as const).find((name) => given.has(name))
    if (alone !== undefined) throw refuse(alone, 'needs tls=true: Riak asks for TLS before it lets a user in')
    return undefined
  }
  const user = given.get('user')
  if (user === undefined) throw refuse('tls=true', 'needs user=NAME: after TLS Riak asks who it is')
  const file = (name: 'ca' | 'cert' | 'key'): string | undefined => {
    const path = given.get(name)
    return path === undefined ? undefined : readOption(name, path)
  }
  const [ca, cert, key] = [file('ca'), file('cert'), file('key')]
  if ((cert === undefined) !== (key === undefined)) throw refuse('cert and key', 'belong together')
  const passwordFile = given.get('passwordFile')
  const password =
    passwordFile === undefined
      ? environment.FERRYFS_RIAK_PASSWORD
      : readOption('passwordFile', passwordFile).replace(/\r?\n$/, '')
  if (password === undefined && cert === undefined)
    throw refuse(`user ${user}`, `needs a password: ${PASSWORD_ADVICE}`)
  return {
    user,
    // With a client certificate Riak takes any password, but wants the field.
    password: password ?? '',
    ...(ca !== undefined && { ca }),
    ...(cert !== undefined && key !== undefined && { cert, key }),
  }
}

function readOption(name: Parameter, path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new UsageError(`--store riak://…: ${name} cannot be read: ${why}`, 2, { cause: error })
  }
}

/** Parameters in the order of the table; none of them is a secret. */
function canonicalQuery(given: ReadonlyMap<Parameter, string>): string {
  const pairs = PARAMETERS.filter((name) => given.has(name)).map(
    (name) => `${name}=${encodeURIComponent(given.get(name) ?? '')}`,
  )
  return pairs.length === 0 ? '' : `?${pairs.join('&')}`
}
