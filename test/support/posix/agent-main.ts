// The process behind an Agent: one user, system calls on request. See agent.ts.
import { bulk } from './bulk.ts'
import { SyscallError } from './libc.ts'
import { posix } from './posix.ts'

const operations: Readonly<Record<string, unknown>> = { ...posix, ...bulk }

interface Request {
  readonly id: number
  readonly operation: string
  readonly values: unknown[]
}

function isRequest(message: unknown): message is Request {
  return typeof message === 'object' && message !== null && 'id' in message && 'operation' in message
}

async function answer({ id, operation, values }: Request): Promise<void> {
  try {
    const call = operations[operation]
    if (typeof call !== 'function') throw new Error(`the agent has no operation ${operation}`)
    process.send?.({ id, value: await call(...values) })
  } catch (error) {
    const failure =
      error instanceof SyscallError
        ? { code: error.code, syscall: error.syscall, message: error.message }
        : { message: error instanceof Error ? (error.stack ?? error.message) : String(error) }
    process.send?.({ id, failure })
  }
}

/** Becomes the user for good. The modules are loaded by now: the user need not be able to read them. */
function become(text: string): void {
  const wanted: unknown = JSON.parse(text)
  if (wanted === null) return
  if (typeof wanted !== 'object' || !('uid' in wanted && 'gid' in wanted && 'groups' in wanted)) {
    throw new Error(`not an identity: ${text}`)
  }
  if (typeof wanted.uid !== 'number' || typeof wanted.gid !== 'number' || !Array.isArray(wanted.groups)) {
    throw new Error(`not an identity: ${text}`)
  }
  process.setgroups?.(wanted.groups)
  process.setgid?.(wanted.gid)
  process.setuid?.(wanted.uid)
}

become(process.argv[2] ?? 'null')
posix.reset()
process.on('message', (message: unknown) => {
  if (isRequest(message)) void answer(message)
})
process.on('disconnect', () => process.exit(0))
process.send?.({ ready: true })
