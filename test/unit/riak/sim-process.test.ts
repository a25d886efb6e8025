import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { openRiakStore } from '../../../src/store/riak/index.ts'
import { object } from './support.ts'

interface Started {
  readonly nodes: readonly { readonly name: string; readonly port: number; readonly httpPort: number }[]
}

test('riak-sim as a process: curl gets a file as it was, faults come over HTTP, SIGTERM ends it', async () => {
  const main = fileURLToPath(new URL('../../support/riak-sim/main.ts', import.meta.url))
  const child = spawn(process.execPath, [main, '--nodes', '3', '--ports', '0,0,0', '--http-ports', '0,0,0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const [line] = await once(createInterface({ input: child.stdout }), 'line')
  const started: Started = JSON.parse(String(line))
  const [first, second] = started.nodes
  const http = `http://127.0.0.1:${first?.httpPort}`

  const hosts = started.nodes.map(({ port }) => `127.0.0.1:${port}`).join(',')
  const store = await openRiakStore(`riak://${hosts}/?type=ferryfs`, {
    namespace: 'ns',
    log: pino({ level: 'silent' }),
  })
  onTestFinished(() => store.close())
  const file = Buffer.from([0, 255, 10, 13, ...Buffer.from('plain bytes\n')])
  await store.put('files', 'dir/näme', {
    ...object('', 3),
    value: file,
    metadata: { mode: '33188', 'a/b': 'c' },
  })

  const path = `/types/ferryfs/buckets/ns/keys/${encodeURIComponent('dir/näme')}`
  const answer = await fetch(http + path)
  expect(answer.status).toBe(200)
  expect(Buffer.from(await answer.arrayBuffer()).equals(file)).toBe(true)
  expect(answer.headers.get('content-type')).toBe('text/plain')
  expect(answer.headers.get('x-riak-meta-ferryfs-version')).toBe('0.3')
  expect(answer.headers.get('x-riak-meta-ferry-mode')).toBe('33188')
  expect(answer.headers.get('x-riak-meta-ferry-a%2fb')).toBe('c')

  expect(await (await fetch(`${http}/ping`)).text()).toBe('OK')
  expect(await (await fetch(`${http}/stats`)).json()).toMatchObject({ nodename: first?.name })
  expect((await fetch(`${http}/buckets/ns/keys/none`)).status).toBe(404)

  expect((await fetch(`${http}/sim/kill?node=2`, { method: 'POST' })).status).toBe(200)
  await expect(fetch(`http://127.0.0.1:${second?.httpPort}/ping`)).rejects.toThrow()
  const body = '/sim/fault?kind=error&error=overload&request=RpbGetReq&times=2'
  expect((await fetch(http + body, { method: 'POST' })).status).toBe(200)
  expect((await fetch(`${http}/sim/fault?kind=nonsense`, { method: 'POST' })).status).toBe(400)
  await expect(store.get('files', 'dir/näme')).rejects.toThrow(/overload/)
  expect((await store.get('files', 'dir/näme'))?.value.equals(file)).toBe(true)

  child.kill('SIGTERM')
  const [code] = await once(child, 'exit')
  expect(code).toBe(0)
})

test('the benchmark of adapter against library runs', async () => {
  const bench = fileURLToPath(new URL('../../support/riak-sim/bench.ts', import.meta.url))
  const env = { ...process.env, FERRYFS_BENCH_MS: '5', NODE_NO_WARNINGS: '1' }
  const { stdout } = await promisify(execFile)(process.execPath, [bench], { env })
  expect(stdout.trim().split('\n')).toHaveLength(6)
  expect(stdout).toMatch(/^1 KiB, 1 at once: put, new key [\d.]+, put, same key [\d.]+, get [\d.]+\n/)
})
