import { FsError } from '../../../src/base/errors.ts'
import { Catalog, DIRTY_LOST } from '../../../src/catalog/index.ts'
import { Outbox } from '../../../src/catalog/outbox.ts'
import type { FileSystem } from '../../../src/fuse/operations.ts'
import { Answers } from '../../../src/overlay/answers.ts'
import { ResilientStore } from '../../../src/store/resilience/store.ts'
import { holdWrites } from './held-writes.ts'
import { patch, without } from './patch.ts'
import { hideUnlinked } from './resurrection.ts'

const CHUNK_BYTES = 1 << 20

/** Each breaks one promise in one way that somebody could really program; the chaos run has to notice. */
export const BROKEN: Readonly<Record<string, () => void>> = {
  /** P1: a range that was read once is answered from memory for ever. */
  'stale-read': () => {
    const seen = new Map<string, Buffer>()
    patch(
      'read',
      (read) =>
        async function (this: FileSystem, context, node, handle, offset, size) {
          const key = `${node}:${offset}:${size}`
          const known = seen.get(key)
          if (known) return known
          const bytes = Buffer.from(await read.call(this, context, node, handle, offset, size))
          seen.set(key, bytes)
          return bytes
        },
    )
  },

  /** P2: what was written and closed is in memory only. */
  'lost-write': () => holdWrites({ untilClose: false }),

  /** P2: fsync answers and does nothing; what is open and not closed is lost by a kill. */
  'lying-fsync': () => holdWrites({ untilClose: true }),

  /** P3: the store is said to have what is still on its way, so the legacy file goes too early. */
  'early-delete': () => {
    const { put, get } = ResilientStore.prototype
    const underWay = new Map<string, Awaited<ReturnType<typeof get>>>()
    ResilientStore.prototype.put = async function (space, key, object, options) {
      if (space !== 'files') return put.call(this, space, key, object, options)
      underWay.set(key, object)
      setTimeout(() => {
        const over = (): void => void underWay.delete(key)
        put.call(this, space, key, object).then(over, over)
      }, 4000)
    }
    ResilientStore.prototype.get = async function (space, key, options) {
      return underWay.get(key) ?? get.call(this, space, key, options)
    }
  },

  /** P2: a write that found no room is reported as done. */
  'swallowed-enospc': () => {
    patch(
      'write',
      (write) =>
        async function (this: FileSystem, context, node, handle, offset, data, options) {
          try {
            return await write.call(this, context, node, handle, offset, data, options)
          } catch (error) {
            if (error instanceof Error && 'code' in error && error.code === 'ENOSPC') return data.length
            throw error
          }
        },
    )
  },

  /** P1: one bit of the second chunk of a file. */
  'wrong-byte': () => {
    patch(
      'read',
      (read) =>
        async function (this: FileSystem, context, node, handle, offset, size) {
          const bytes = Buffer.from(await read.call(this, context, node, handle, offset, size))
          const first = bytes[0]
          if (offset >= CHUNK_BYTES && first !== undefined) bytes[0] = first ^ 1
          return bytes
        },
    )
  },

  /** P2: a deleted file is back after a kill. */
  resurrection: hideUnlinked,

  /** P2: every fourth rename is answered and not made. */
  'lost-rename': () => {
    let count = 0
    patch(
      'rename',
      (rename) =>
        function (this: FileSystem, context, parent, name, newParent, newName, flags) {
          count += 1
          if (count % 4 === 0) return undefined
          return rename.call(this, context, parent, name, newParent, newName, flags)
        },
    )
  },

  /** P1: a listing that leaves out a name that can be opened all the same. */
  'dropped-entry': () => {
    patch(
      'readdir',
      (readdir) =>
        function (this: FileSystem, context, node, handle, cookie, sink) {
          const seen = without(sink, (name) => name.equals(Buffer.from('b')))
          return readdir.call(this, context, node, handle, cookie, seen)
        },
    )
  },

  /** P1: the last bytes of a long write are missing. */
  'truncated-tail': () => {
    patch(
      'write',
      (write) =>
        async function (this: FileSystem, context, node, handle, offset, data, options) {
          const kept = data.length > 60_000 ? data.subarray(0, data.length - 7) : data
          await write.call(this, context, node, handle, offset, kept, options)
          return data.length
        },
    )
  },

  /** P1: permissions that nobody set. */
  'wrong-mode': () => {
    patch(
      'setattr',
      (setattr) =>
        function (this: FileSystem, context, node, changes, handle) {
          const { mode } = changes
          const wrong = mode === undefined ? changes : { ...changes, mode: mode | 0o022 }
          return setattr.call(this, context, node, wrong, handle)
        },
    )
  },

  /** P7: a request that the kernel sends again after a kill takes effect twice. */
  'repeated-effect': () => {
    Answers.prototype.recorded = () => undefined
  },

  /** P1: content that the store cannot give is answered as zeros. */
  'zeros-for-errors': () => {
    patch(
      'read',
      (read) =>
        async function (this: FileSystem, context, node, handle, offset, size) {
          try {
            return await read.call(this, context, node, handle, offset, size)
          } catch (error) {
            if (error instanceof FsError && error.code === 'EIO') return Buffer.alloc(size)
            throw error
          }
        },
    )
  },

  /** P4: every fifth directory record is said to be in the store and was never sent. */
  'record-never-sent': () => {
    const { put } = ResilientStore.prototype
    let count = 0
    ResilientStore.prototype.put = async function (space, key, object, options) {
      count += space === 'dirs' ? 1 : 0
      if (space === 'dirs' && count % 5 === 0) return
      return put.call(this, space, key, object, options)
    }
  },

  /** P4: what the store has lost is found and never written again. */
  'lost-again': () => {
    const { save } = Catalog.prototype
    const { add } = Outbox.prototype
    let isLost = false
    Catalog.prototype.save = function (inode) {
      isLost ||= (inode.dirty & DIRTY_LOST) !== 0
      inode.dirty &= ~DIRTY_LOST
      return save.call(this, inode)
    }
    Outbox.prototype.add = function (kind, ino) {
      if (isLost) isLost = false
      else add.call(this, kind, ino)
    }
  },
}
