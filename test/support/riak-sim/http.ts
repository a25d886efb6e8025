import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Content } from './object.ts'
import { bucketKey } from './ring.ts'
import type { ServiceContext } from './service.ts'
import { encodeClock, type VClock } from './vclock.ts'

/**
 * Riak's HTTP port as far as `curl` on a migrated file needs it (riak_kv_wm_object.erl, riak_kv_wm_ping.erl): objects to
 * read, `/ping`, a few of `/stats`. And `/sim/…`, which no Riak has: faults for a simulator in a process of its own.
 */
export interface HttpHost extends ServiceContext {
  readonly requests: ReadonlyMap<string, number>
  /** `POST /sim/COMMAND?…`; an answer that is `undefined` means that there is no such command. */
  control(command: string, parameters: URLSearchParams): Promise<string | undefined>
}

const OBJECT = /^(?:\/types\/([^/]+))?\/buckets\/([^/]+)\/keys\/(.+)$/

interface Answer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body: string | Buffer
}

export function handleHttp(host: HttpHost, request: IncomingMessage, response: ServerResponse): void {
  if (host.state.stateOf(host.node) === 'paused') return
  answer(host, request).then(
    ({ status, headers, body }) => {
      response
        .writeHead(status, { 'Content-Type': 'text/plain', 'Content-Length': body.length, ...headers })
        .end(body)
    },
    (error: unknown) => response.writeHead(400).end(`${String(error)}\n`),
  )
}

async function answer(host: HttpHost, request: IncomingMessage): Promise<Answer> {
  const url = new URL(request.url ?? '/', 'http://localhost')
  const command = /^\/sim\/([\w-]+)$/.exec(url.pathname)?.[1]
  if (request.method === 'POST' && command !== undefined) {
    const body = await host.control(command, url.searchParams)
    return body === undefined ? { status: 404, body: 'no such command\n' } : { status: 200, body }
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') return { status: 405, body: '' }
  if (url.pathname === '/ping') return { status: 200, body: 'OK' }
  if (url.pathname === '/stats') return stats(host)
  const match = OBJECT.exec(url.pathname)
  if (match === null) return { status: 404, body: 'not found\n' }
  const [, type = 'default', bucket = '', key = ''] = match
  return object(host, { type: decodeURIComponent(type), bucket: bytes(bucket), key: bytes(key) })
}

/** Percent-decoded to bytes, which need not be UTF-8. */
function bytes(text: string): Buffer {
  const binary = text.replaceAll(/%([0-9a-f]{2})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  )
  return Buffer.from(binary, 'latin1')
}

function stats(host: HttpHost): Answer {
  const count = (name: string): number => host.requests.get(name) ?? 0
  const body = JSON.stringify({
    nodename: host.node,
    ring_members: host.state.nodes,
    connected_nodes: host.state.nodes.filter(
      (node) => node !== host.node && host.state.stateOf(node) === 'up',
    ),
    node_gets_total: count('RpbGetReq'),
    node_puts_total: count('RpbPutReq'),
    riak_kv_version: host.serverVersion,
  })
  return { status: 200, headers: { 'Content-Type': 'application/json' }, body }
}

function object(host: HttpHost, path: { type: string; bucket: Buffer; key: Buffer }): Answer {
  if (host.state.types.ofType(path.type) === undefined) {
    return { status: 404, body: `Unknown bucket type: ${path.type}` }
  }
  const target = bucketKey({ type: path.type, name: path.bucket }, path.key)
  const found = host.coordinator.get(target, { r: 'default', pr: 'default', deletedVclock: true })
  if (found.kind === 'never') return { status: 503, body: 'request timed out\n' }
  if (found.kind === 'error') return { status: 503, body: `${found.reason}\n` }
  if (found.kind === 'deleted') {
    const headers = { 'X-Riak-Deleted': 'true', 'X-Riak-Vclock': base64(found.clock) }
    return { status: 404, headers, body: 'not found\n' }
  }
  if (found.kind !== 'object') return { status: 404, body: 'not found\n' }
  const headers = { 'X-Riak-Vclock': base64(found.object.clock) }
  const [first, ...others] = found.object.contents
  if (first === undefined || others.length > 0) {
    // multiple_choices/2
    const tags = found.object.contents.map(({ vtag }) => vtag)
    return { status: 300, headers, body: ['Siblings:', ...tags, ''].join('\n') }
  }
  return { status: 200, headers: { ...headers, ...contentHeaders(first) }, body: first.value }
}

function base64(clock: VClock): string {
  return encodeClock(clock).toString('base64')
}

function contentHeaders(one: Content): Record<string, string> {
  return {
    'Content-Type': one.contentType?.toString('latin1') ?? 'application/octet-stream',
    ...(one.contentEncoding !== undefined && { 'Content-Encoding': one.contentEncoding.toString('latin1') }),
    ETag: `"${one.vtag}"`,
    'Last-Modified': new Date(one.lastModified / 1000).toUTCString(),
    // "Add user metadata to response": under the names as they were stored.
    ...Object.fromEntries(
      one.usermeta.map(({ key, value }) => [key.toString('latin1'), value.toString('latin1')]),
    ),
  }
}
