import { expect, it } from 'vitest'
import { createMetrics, serveMetrics } from '../../../src/observe/metrics.ts'

it('metrics of the process are in every registry, and each registry is its own', async () => {
  const [first, second] = [createMetrics(), createMetrics()]
  expect(await first.metrics()).toContain('ferryfs_process_resident_memory_bytes')
  expect(first.getMetricsAsArray()).toHaveLength(second.getMetricsAsArray().length)
})

it('metrics that cannot be collected are a 500, and the listener lives on', async () => {
  let calls = 0
  const { port, server } = await serveMetrics({ host: '127.0.0.1', port: 0 }, async () => {
    calls += 1
    if (calls === 1) throw new Error('not now')
    return 'a 1\n'
  })
  try {
    expect((await fetch(`http://127.0.0.1:${port}/metrics`)).status).toBe(500)
    const answer = await fetch(`http://127.0.0.1:${port}/metrics?x=1`)
    expect(answer.headers.get('content-type')).toContain('text/plain; version=0.0.4')
    expect(await answer.text()).toBe('a 1\n')
  } finally {
    server.closeAllConnections()
    server.close()
  }
})
