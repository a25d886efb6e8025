import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, expect, onTestFinished, test } from 'vitest'
import { UsageError } from '../../../src/base/errors.ts'
import { openRiakStore } from '../../../src/store/riak/index.ts'
import { type Cluster, startCluster } from '../../support/riak-sim/cluster.ts'
import { object } from './support.ts'

const OPENSSL = 'openssl'
const directory = mkdtempSync(join(tmpdir(), 'ferryfs-riak-tls-'))
afterAll(() => rmSync(directory, { recursive: true }))

const at = (name: string): string => join(directory, name)

/** A certificate that signs itself, made here so that no key lies in the repository. */
function certificate(name: string, subject: string): boolean {
  const parameters = [
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-days',
    '2',
    '-subj',
    `/CN=${subject}`,
  ]
  try {
    execFileSync(
      OPENSSL,
      [
        ...parameters,
        '-addext',
        `subjectAltName=${subject}`,
        '-keyout',
        at(`${name}.key`),
        '-out',
        at(`${name}.pem`),
      ],
      { stdio: 'ignore' },
    )
    return true
  } catch {
    return false
  }
}

const hasOpenssl = certificate('server', 'IP:127.0.0.1') && certificate('other', 'IP:127.0.0.2')
if (!hasOpenssl)
  process.stdout.write('Riak over TLS: skipped, openssl is not installed to make a certificate\n')

const log = pino({ level: 'silent' })

async function secureCluster(): Promise<Cluster> {
  writeFileSync(at('password'), 'secret\n')
  const [key, cert] = [readFileSync(at('server.key'), 'utf8'), readFileSync(at('server.pem'), 'utf8')]
  const cluster = await startCluster({ nodes: 1, security: { key, cert, users: { ferry: 'secret' } } })
  onTestFinished(() => cluster.close())
  return cluster
}

function url(cluster: Cluster, parameters: string): string {
  return `riak://${cluster.hosts}/?type=ferryfs&timeout=3000&${parameters}`
}

test.skipIf(!hasOpenssl)('TLS with a password from a file', async () => {
  const cluster = await secureCluster()
  const parameters = `tls=true&ca=${at('server.pem')}&user=ferry&passwordFile=${at('password')}`
  const store = await openRiakStore(url(cluster, parameters), { namespace: 'ns', log })
  onTestFinished(() => store.close())
  const large = { ...object('', 1), value: Buffer.alloc(1024 * 1024, 'x') }
  await store.put('files', 'k', large)
  expect((await store.get('files', 'k'))?.value.equals(large.value)).toBe(true)
  expect(store.url).not.toContain('secret')
})

test.skipIf(!hasOpenssl)('a server that the CA does not vouch for never sees the password', async () => {
  const cluster = await secureCluster()
  const parameters = `tls=true&ca=${at('other.pem')}&user=ferry&passwordFile=${at('password')}`
  const store = await openRiakStore(url(cluster, parameters), { namespace: 'ns', log })
  onTestFinished(() => store.close())
  await expect(store.ping()).rejects.toThrow(/gives no safe connection|left alone.*safe connection/)
  expect(cluster.requestCount('RpbAuthReq')).toBe(0)
})

test.skipIf(!hasOpenssl)('a wrong password is refused at once, in one line', async () => {
  const cluster = await secureCluster()
  writeFileSync(at('wrong'), 'guess\n')
  const parameters = `tls=true&ca=${at('server.pem')}&user=ferry&passwordFile=${at('wrong')}`
  const open = openRiakStore(url(cluster, parameters), { namespace: 'ns', log })
  await expect(open).rejects.toThrow(UsageError)
  await expect(open).rejects.toThrow(/Authentication failed \(user, password or certificate is wrong\)/)
  await expect(open).rejects.not.toThrow(/guess/)
})

test.skipIf(!hasOpenssl)('TLS on one side only is refused with what to change', async () => {
  const secure = await secureCluster()
  const plain = openRiakStore(url(secure, 'r=quorum'), { namespace: 'ns', log })
  await expect(plain).rejects.toThrow(/add tls=true and user=/)

  const open = await startCluster({ nodes: 1 })
  onTestFinished(() => open.close())
  const parameters = `tls=true&ca=${at('server.pem')}&user=ferry&passwordFile=${at('password')}`
  await expect(openRiakStore(url(open, parameters), { namespace: 'ns', log })).rejects.toThrow(
    /take tls=true out/,
  )
})
