import { isDirectory } from '../../../src/base/attributes.ts'
import { FsError } from '../../../src/base/errors.ts'
import type { FileSystem, RequestContext } from '../../../src/fuse/operations.ts'
import { patch, without } from './patch.ts'

interface Hidden {
  readonly context: RequestContext
  readonly parent: bigint
  readonly name: Buffer
}

/** Unlinked names are only hidden, in memory, until the next change of names: a kill in between brings them back. */
export function hideUnlinked(): void {
  const hidden = new Map<string, Hidden>()
  let unlink: FileSystem['unlink'] | undefined
  let lookup: FileSystem['lookup'] | undefined
  const keyOf = (parent: bigint, name: Buffer): string => `${parent}/${name.toString('latin1')}`
  const carryOut = async (fileSystem: FileSystem): Promise<void> => {
    const due = [...hidden.values()]
    hidden.clear()
    for (const { context, parent, name } of due) await unlink?.call(fileSystem, context, parent, name)
  }
  patch('unlink', (original) => {
    unlink = original
    return async function (this: FileSystem, context, parent, name) {
      await carryOut(this)
      // It refuses what the real one would refuse.
      const entry = await lookup?.call(this, context, parent, name)
      if (entry && isDirectory(entry.attributes.mode)) throw new FsError('EISDIR')
      hidden.set(keyOf(parent, name), { context, parent, name: Buffer.from(name) })
    }
  })
  patch('lookup', (original) => {
    lookup = original
    return function (this: FileSystem, context, parent, name) {
      if (hidden.has(keyOf(parent, name))) throw new FsError('ENOENT')
      return original.call(this, context, parent, name)
    }
  })
  patch(
    'readdir',
    (readdir) =>
      function (this: FileSystem, context, node, handle, cookie, sink) {
        const seen = without(sink, (name) => hidden.has(keyOf(node, name)))
        return readdir.call(this, context, node, handle, cookie, seen)
      },
  )
  patch(
    'create',
    (create) =>
      async function (this: FileSystem, context, parent, name, mode, flags) {
        await carryOut(this)
        return create.call(this, context, parent, name, mode, flags)
      },
  )
  patch(
    'rename',
    (rename) =>
      async function (this: FileSystem, context, parent, name, newParent, newName, flags) {
        await carryOut(this)
        return rename.call(this, context, parent, name, newParent, newName, flags)
      },
  )
  patch(
    'link',
    (link) =>
      async function (this: FileSystem, context, node, parent, name) {
        await carryOut(this)
        return link.call(this, context, node, parent, name)
      },
  )
}
