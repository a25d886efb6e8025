// A legacy volume in a process of its own, so that nobody but the daemon under test waits for it. argv: the directory
// behind it and the mount point. Messages: what fails from now on; answered when it does.
import { mountKernel } from '../../../src/fuse/kernel/mount.ts'
import { KernelSession } from '../../../src/fuse/kernel/session.ts'
import { createLog } from '../../../src/observe/log.ts'
import { BackedFileSystem, type Failing } from './backed-file-system.ts'

const [directory = '', target = ''] = process.argv.slice(2)
process.umask(0)
const fileSystem = new BackedFileSystem(directory)
const log = createLog({ level: 'error', name: 'volume', write: (line) => process.stderr.write(line) })
const { fd } = await mountKernel({ target, source: 'chaos', fsname: 'chaos-volume' })
const session = new KernelSession({ fd, fileSystem, log })
session.start()
await session.ready
process.send?.('ready')
process.on('message', (failing: Failing) => {
  fileSystem.failing = failing
  process.send?.(failing)
})
await session.done
process.disconnect?.()
