import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { UsageError } from '../../../src/base/errors.ts'
import { parseRiakUrl } from '../../../src/store/riak/url.ts'

const NO_ENVIRONMENT = {}

test('a URL with several hosts, ports by default, and IPv6', () => {
  const { nodes, type, r, w, dw, tls } = parseRiakUrl(
    'riak://a.example:10017,b,[::1]:8187,10.0.0.1',
    NO_ENVIRONMENT,
  )
  expect(nodes).toEqual([
    { host: 'a.example', port: 10017 },
    { host: 'b', port: 8087 },
    { host: '::1', port: 8187 },
    { host: '10.0.0.1', port: 8087 },
  ])
  expect({ type, r, w, dw, tls }).toEqual({
    type: 'default',
    r: 'quorum',
    w: 'quorum',
    dw: 'quorum',
    tls: undefined,
  })
})

test('every parameter is read', () => {
  const options = parseRiakUrl(
    'riak://h/?type=t&r=one&w=all&dw=2&timeout=2500&connections=4&tls=false',
    NO_ENVIRONMENT,
  )
  expect(options).toMatchObject({ type: 't', r: 'one', w: 'all', dw: 2, timeoutMs: 2500, connections: 4 })
  expect(options.url).toBe('riak://h:8087/?type=t&r=one&w=all&dw=2&timeout=2500&connections=4&tls=false')
})

test('the password comes from a file or the environment, and is not in the url property', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ferryfs-riak-url-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  const file = join(directory, 'password')
  writeFileSync(file, 'from file\n')
  const url = `riak://h/?tls=true&user=u&passwordFile=${encodeURIComponent(file)}`
  expect(parseRiakUrl(url, { FERRYFS_RIAK_PASSWORD: 'from environment' }).tls?.password).toBe('from file')
  const other = parseRiakUrl('riak://h/?tls=true&user=u', { FERRYFS_RIAK_PASSWORD: 'from environment' })
  expect(other.tls?.password).toBe('from environment')
  expect(other.url).not.toContain('from')
})

test.each([
  ['riak:h', /a Riak store is written riak:/],
  ['riak://', /host "" is not HOST/],
  ['riak://a,,b', /host "" is not HOST/],
  ['riak://a:0', /host "a:0"/],
  ['riak://a:65536', /host "a:65536"/],
  ['riak://a:x', /host "a:x"/],
  ['riak://a b', /host "a b"/],
  ['riak://a,a:8087', /host a:8087 is there twice/],
  ['riak://a/bucket', /after the hosts come only/],
  ['riak://a/?type=t#x', /after the hosts come only/],
  ['riak://a/?tpye=t', /"tpye" is unknown; known are type, r, w/],
  ['riak://a/?type=t&type=u', /type is given twice/],
  ['riak://a/?type=', /type has no value/],
  ['riak://a/?r=0', /r "0" is none of one, quorum, all/],
  ['riak://a/?w=most', /w "most" is none of/],
  ['riak://a/?timeout=5s', /timeout "5s" is no whole number from 100/],
  ['riak://a/?timeout=99', /timeout "99" is no whole number/],
  ['riak://a/?connections=0', /connections "0"/],
  ['riak://a/?tls=yes', /tls "yes" is neither true nor false/],
  ['riak://a/?user=u', /user needs tls=true/],
  ['riak://a/?tls=true', /tls=true needs user=NAME/],
  ['riak://a/?tls=true&user=u', /user u needs a password: name a file with passwordFile/],
  ['riak://a/?tls=true&user=u&cert=/nowhere', /cert cannot be read/],
  ['riak://a/?tls=true&user=u&passwordFile=/nowhere', /passwordFile cannot be read/],
])('%s is refused in one clear line', (url, message) => {
  expect(() => parseRiakUrl(url, NO_ENVIRONMENT)).toThrow(UsageError)
  expect(() => parseRiakUrl(url, NO_ENVIRONMENT)).toThrow(message)
})

test.each([
  'riak://u:hunter2@h/',
  'riak://hunter2@h/',
  'riak://h/?user=u&password=hunter2',
  'riak://h/?Password=hunter2',
])('a password in the URL is refused and not repeated: %s', (url) => {
  let message = ''
  try {
    parseRiakUrl(url, NO_ENVIRONMENT)
  } catch (error) {
    message = String(error)
  }
  expect(message).toMatch(/passwordFile|FERRYFS_RIAK_PASSWORD/)
  expect(message).not.toContain('hunter2')
})
