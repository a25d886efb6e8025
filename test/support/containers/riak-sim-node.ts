/**
 * What the image ferryfs-test/riak-sim runs: it reads the variables of Basho's image, so that the tests start it in the
 * same way. The container without COORDINATOR_NODE holds the whole simulated cluster; the others are doors to it, each to
 * the node whose number its host name has (`riak2…`), and end with it.
 */
import { connect, createServer } from 'node:net'
import { hostname } from 'node:os'
import { startCluster } from '../riak-sim/cluster.ts'

const PB_PORT = 8087
const HTTP_PORT = 8098
// Ports of the other nodes inside the coordinator: 18087, 28087, …
const STRIDE = 10_000
const NODES = 3
// As often as the simulator does it when it is a process of its own.
const HANDOFF_MS = 1000

const coordinator = process.env.COORDINATOR_NODE ?? ''

async function cluster(): Promise<void> {
  const ports = (first: number): number[] =>
    Array.from({ length: NODES }, (_, index) => first + index * STRIDE)
  const started = await startCluster({
    nodes: NODES,
    // A container's own network: what is seen of it outside is for the engine to say.
    host: '0.0.0.0',
    ports: ports(PB_PORT),
    httpPorts: ports(HTTP_PORT),
  })
  started.handoffEvery(HANDOFF_MS)
}

function door(port: number, number: number): void {
  const server = createServer((socket) => {
    const inside = connect(port + (number - 1) * STRIDE, coordinator)
    socket.setNoDelay(true)
    inside.setNoDelay(true)
    socket.pipe(inside).pipe(socket)
    for (const [one, other] of [
      [socket, inside],
      [inside, socket],
    ] as const) {
      one.on('error', () => other.resetAndDestroy())
      one.on('close', () => other.destroy())
    }
  })
  server.listen(port, '0.0.0.0')
}

if (coordinator === '' || coordinator === hostname()) {
  await cluster()
} else {
  const number = Number(/^riak(\d+)/.exec(hostname())?.[1])
  if (!(number > 1 && number <= NODES)) {
    throw new Error(`The host name must begin with riak2 to riak${NODES}, and is ${hostname()}`)
  }
  door(PB_PORT, number)
  door(HTTP_PORT, number)
}
// The first process of a container gets no default action for a signal.
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => process.exit(0))
