/**
 * The simulator as a process of its own:
 *
 *   node test/support/riak-sim/main.ts [--nodes 3] [--ports 8087,8187,8287] [--http-ports 8098,8198,8298]
 *     [--host 127.0.0.1] [--seed 1] [--delete-mode 3000|keep|immediate] [--handoff 1000]
 *
 * Prints one line of JSON once it answers, and ends with SIGTERM or SIGINT.
 */
import { parseArgs } from 'node:util'
import { startCluster } from './cluster.ts'
import type { DeleteMode } from './vnode.ts'

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '3' },
    ports: { type: 'string', default: '' },
    'http-ports': { type: 'string', default: '' },
    host: { type: 'string', default: '127.0.0.1' },
    seed: { type: 'string', default: '1' },
    'delete-mode': { type: 'string', default: '3000' },
    handoff: { type: 'string', default: '1000' },
  },
})

const numbers = (text: string): number[] => (text === '' ? [] : text.split(',').map(Number))

function deleteMode(text: string): DeleteMode {
  return text === 'keep' || text === 'immediate' ? text : Number(text)
}

const cluster = await startCluster({
  nodes: Number(values.nodes),
  ports: numbers(values.ports),
  httpPorts: numbers(values['http-ports']),
  host: values.host,
  seed: Number(values.seed),
  deleteMode: deleteMode(values['delete-mode']),
})
cluster.handoffEvery(Number(values.handoff))

for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void cluster.close())

const nodes = cluster.nodes.map(({ name, host, port, httpPort }) => ({ name, host, port, httpPort }))
process.stdout.write(`${JSON.stringify({ nodes })}\n`)
