import { execFile } from 'node:child_process'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, onTestFinished, test, vi } from 'vitest'
import { containerEngine, NoContainers } from '../../support/containers/engine.ts'
import { riakTarget } from '../../support/riak-target.ts'

test('P6: an engine that takes the question and never answers holds no suite up', async () => {
  const socket = join(tmpdir(), `ferryfs-silent-engine-${process.pid}`)
  const server = createServer((connection) => connection.on('error', () => undefined))
  const connections = new Promise<void>((resolve) => server.once('connection', () => resolve()))
  await new Promise<void>((resolve) => server.listen(socket, resolve))
  onTestFinished(() => void server.close())
  vi.stubEnv('DOCKER_HOST', `unix://${socket}`)
  onTestFinished(() => void vi.unstubAllEnvs())

  const asked = containerEngine(500)
  await connections
  const error = await asked.catch((reason: unknown) => reason)
  expect(error).toBeInstanceOf(NoContainers)
  expect(String(error)).toContain('no container engine (no answer)')
})

test('a container of the simulator that cannot tell which node it is ends, and says what is wrong', async () => {
  const program = fileURLToPath(new URL('../../support/containers/riak-sim-node.ts', import.meta.url))
  const environment = { ...process.env, COORDINATOR_NODE: 'riak1.invalid' }
  const error = await promisify(execFile)(process.execPath, [program], { env: environment }).catch(
    (reason: unknown) => reason,
  )
  expect(String(error)).toContain('The host name must begin with riak2 to riak3')
})

test('without an engine or the image a suite runs on the simulator, and its first line says why', async () => {
  vi.stubEnv('FERRYFS_TEST_CONTAINERS', '1')
  vi.stubEnv('FERRYFS_RIAK', '')
  vi.stubEnv('DOCKER_HOST', 'unix:///nonexistent/engine')
  // Where the usual socket leads to an engine all the same: a registry on a loopback port that nobody listens on.
  vi.stubEnv('FERRYFS_RIAK_IMAGE', '127.0.0.1:1/absent')
  onTestFinished(() => void vi.unstubAllEnvs())

  await using target = await riakTarget({ seed: 5 })
  expect(target.description).toMatch(
    /^riak-sim, 3 nodes, (un)?typed, seed 5 \(FERRYFS_TEST_CONTAINERS=1, but no (container engine|image 127\.0\.0\.1:1\/absent) \(.+\)\)$/,
  )
  expect(target.simulator?.hosts).toBe(target.hosts)
})
