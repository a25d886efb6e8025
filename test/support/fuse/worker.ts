// A worker as the daemon has them, in small: inherits the connection as descriptor 3, serves a directory, and can be
// killed at any time. argv: the directory. Messages: see supervisor.ts.
import { KernelSession } from '../../../src/fuse/index.ts'
import { keepingLog } from './keeping-log.ts'
import { Passthrough } from './passthrough.ts'

const [root = ''] = process.argv.slice(2)
const tell = (message: object): void => {
  process.send?.(message)
}

process.once('message', (start: { state: unknown }) => {
  const fileSystem = new Passthrough(root)
  const log = keepingLog()
  const session = new KernelSession({
    fd: 3,
    fileSystem,
    log,
    state: start.state,
    onInit: (state) => tell({ state }),
  })
  fileSystem.onServed = () => tell({ served: fileSystem.served, resent: fileSystem.resent })
  session.start()
  void session.ready.then(() => tell({ ready: true }))
  void session.done.then(({ reason }) => {
    const problems = log.lines.filter((line) => line.level !== 'debug').map((line) => line.message)
    tell({ done: reason, problems })
    if (reason !== 'stopped') process.disconnect()
  })
  process.once('message', () => {
    void session.stop().then(() => process.disconnect())
  })
})
