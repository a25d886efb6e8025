import { createServer, type Server } from 'node:http'
import { collectDefaultMetrics, Registry } from 'prom-client'

/** A registry of its own with the process's memory, CPU, event loop and descriptors in it. */
export function createMetrics(): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry, prefix: 'ferryfs_' })
  return registry
}

/**
 * Serves `render()` at /metrics for Prometheus.
 * @returns the port, which the system chose if 0 was given
 * @throws the listener's error (EADDRINUSE …)
 */
export async function serveMetrics(
  { host, port }: { readonly host: string; readonly port: number },
  render: () => Promise<string>,
): Promise<{ readonly port: number; readonly server: Server }> {
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
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
  const address = server.address()
  return { server, port: typeof address === 'object' && address !== null ? address.port : port }
}
