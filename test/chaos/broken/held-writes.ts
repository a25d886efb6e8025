import type { FileSystem, RequestContext } from '../../../src/fuse/operations.ts'
import { patch } from './patch.ts'

interface HeldWrite {
  readonly context: RequestContext
  readonly handle: bigint
  readonly offset: number
  readonly data: Buffer
  readonly options: { readonly killSuidGid: boolean; readonly flags: number }
}

/**
 * Writes are answered and kept in this process's memory until somebody looks at the file: nobody notices until the process
 * is killed. With `untilClose` a close carries them out, so that only what was written (and fsynced) to a file that is
 * still open is lost.
 */
export function holdWrites({ untilClose }: { untilClose: boolean }): void {
  const held = new Map<bigint, HeldWrite[]>()
  let write: FileSystem['write'] | undefined
  const carryOut = async (fileSystem: FileSystem, node: bigint): Promise<void> => {
    const writes = held.get(node) ?? []
    held.delete(node)
    for (const { context, handle, offset, data, options } of writes) {
      await write?.call(fileSystem, context, node, handle, offset, data, options)
    }
  }
  patch('write', (original) => {
    write = original
    return (context, node, handle, offset, data, options) => {
      const kept = { context, handle, offset, data: Buffer.from(data), options }
      held.set(node, [...(held.get(node) ?? []), kept])
      return data.length
    }
  })
  patch(
    'read',
    (read) =>
      async function (this: FileSystem, context, node, handle, offset, size) {
        await carryOut(this, node)
        return read.call(this, context, node, handle, offset, size)
      },
  )
  patch(
    'getattr',
    (getattr) =>
      async function (this: FileSystem, context, node, handle) {
        await carryOut(this, node)
        return getattr.call(this, context, node, handle)
      },
  )
  patch(
    'setattr',
    (setattr) =>
      async function (this: FileSystem, context, node, changes, handle) {
        await carryOut(this, node)
        return setattr.call(this, context, node, changes, handle)
      },
  )
  patch('fsync', () => () => undefined)
  patch(
    'flush',
    (flush) =>
      async function (this: FileSystem, context, node, handle) {
        if (untilClose) await carryOut(this, node)
        return flush.call(this, context, node, handle)
      },
  )
}
