import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { collectDefaultMetrics, Registry } from 'prom-client'

/** A registry of its own with the process's memory, CPU, event loop and descriptors in it. */
export function createMetrics(): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry, prefix: 'ferryfs_' })
  return registry
}

export interface MetricsServer {
  readonly port: number
  close(): Promise<void>
}

/**
 * Serves `render()` at /metrics for Prometheus.
 * @throws the listener's error (EADDRINUSE …)
 */
export async function serveMetrics(
  address: { readonly host: string; readonly port: number },
  render: () => Promise<string>,
): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    if (request.url?.split('?')[0] !== '/metrics') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('see /metrics\n')
      return
    }
    render().then(
      (text) => response.writeHead(200, { 'content-type': Registry.PROMETHEUS_CONTENT_TYPE }).end(text),
      () =>
        response.writeHead(500, { 'content-type': 'text/plain' }).end('metrics cannot be collected now\n'),
    )
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(address.port, address.host, () => {
      server.off('error', reject)
      resolve()
    })
  })
  return { port: (server.address() as AddressInfo).port, close: () => closeServer(server) }
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
