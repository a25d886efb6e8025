import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { pino } from 'pino'
import { beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { ObjectToStore } from '../../../src/store/contract.ts'
import { StoreError } from '../../../src/store/errors.ts'
import { openRiakStore } from '../../../src/store/riak/index.ts'
import { containerEngine, messageOf } from '../../support/containers/engine.ts'
import { toxiproxyTarget } from '../../support/containers/toxiproxy.ts'
import { riakTarget } from '../../support/riak-target.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../../../', import.meta.url))

const ENVIRONMENT = {
  FERRYFS_TEST_CONTAINERS: '1',
  FERRYFS_RIAK: '',
  FERRYFS_RIAK_TYPE: '',
  FERRYFS_RIAK_IMAGE: 'ferryfs-test/riak-sim',
  FERRYFS_TOXIPROXY_IMAGE: 'ferryfs-test/toxiproxy',
  // Its image would have to be pulled; what these tests start they end.
  TESTCONTAINERS_RYUK_DISABLED: 'true',
}

const missing = await whatIsMissing()
process.stdout.write(
  missing === undefined
    ? 'Containers: Riak (its simulator) and Toxiproxy as images built here\n'
    : `Containers: skipped, ${missing}\n`,
)

/** Why no containers of images built here can be tried. */
async function whatIsMissing(): Promise<string | undefined> {
  try {
    await containerEngine()
  } catch (error) {
    return messageOf(error)
  }
  try {
    await run('docker', ['version'], { timeout: 10_000 })
  } catch {
    return 'no docker command that reaches the engine, to build images'
  }
  if (process.env.TOXIPROXY_BINARY !== undefined) return undefined
  try {
    await run('go', ['version'])
    return undefined
  } catch {
    return 'neither Go nor TOXIPROXY_BINARY, to make an image of Toxiproxy'
  }
}

function object(version: number): ObjectToStore {
  return {
    value: Buffer.alloc(20_000, `${version} `),
    version: { epoch: 1, version },
    contentType: 'text/plain',
    metadata: { n: String(version) },
  }
}

describe.skipIf(missing !== undefined)('containers of images that were built from scratch', () => {
  beforeAll(async () => {
    await run(`${root}test/support/containers/build-scratch-images.sh`)
  }, 300_000)

  test('P1, P4: three nodes behind Toxiproxy, all of them containers: one cut off, all cut off, all back', async () => {
    for (const [name, value] of Object.entries(ENVIRONMENT)) vi.stubEnv(name, value)
    onTestFinished(() => void vi.unstubAllEnvs())
    const target = await riakTarget()
    onTestFinished(() => target[Symbol.asyncDispose]())
    expect(target.description).toMatch(/^Riak in 3 containers of ferryfs-test\/riak-sim, /)
    const toxiproxy = await toxiproxyTarget()
    expect(toxiproxy?.description).toBe('Toxiproxy in a container of ferryfs-test/toxiproxy')
    const server = await toxiproxy?.start()
    if (server === undefined) throw new Error('no Toxiproxy')
    onTestFinished(() => server[Symbol.asyncDispose]())
    const proxies = await Promise.all(
      target.hosts.split(',').map((host, index) => server.proxy(`riak-${index}`, host)),
    )
    const hosts = proxies.map(({ listen }) => listen).join(',')
    const store = await openRiakStore(`riak://${hosts}/?timeout=5000`, {
      namespace: `t${randomUUID()}`,
      log: pino({ level: 'silent' }),
    })
    onTestFinished(() => store.close())
    const open = (enabled: boolean, some = proxies) =>
      Promise.all(some.map((proxy) => proxy.update({ ...proxy.toJson(), enabled })))
    const read = () => store.get('files', 'key', { expect: { epoch: 1, version: 1 } })

    await store.put('files', 'key', object(1))
    // Each node by itself has what was written through another: the containers are one cluster.
    for (const proxy of proxies) {
      await open(false)
      await open(true, [proxy])
      await expect.poll(() => read().catch(() => undefined)).toEqual(object(1))
    }
    await open(false)
    await expect(read()).rejects.toBeInstanceOf(StoreError)
    await open(true)
    await expect.poll(() => read().catch(() => undefined)).toEqual(object(1))
  }, 180_000)

  test('the suites of the Riak store pass on these containers', async () => {
    const inherited = Object.entries(process.env).filter(([name]) => !/^(VITEST|TEST$|NODE_ENV$)/.test(name))
    const { stdout } = await run('node_modules/.bin/vitest', ['run', 'test/integration/riak'], {
      cwd: root,
      env: { ...Object.fromEntries(inherited), ...ENVIRONMENT, NO_COLOR: '1' },
      maxBuffer: 64 * 1024 * 1024,
    }).catch((error: unknown) => {
      const output = error instanceof Error && 'stdout' in error ? String(error.stdout) : ''
      throw new Error(`the suites have failed:\n${output}`, { cause: error })
    })
    expect(stdout).toContain('store contract on Riak in 3 containers of ferryfs-test/riak-sim')
    expect(stdout).toMatch(/Tests +\d+ passed/)
  }, 600_000)
})
