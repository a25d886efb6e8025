import { isDirectory } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { type Catalog, isLost, ROOT_INO } from '../catalog/index.ts'
import type { Names, Resolved } from './names.ts'

const ITSELF = Buffer.from('.')
const ABOVE = Buffer.from('..')

/**
 * What a look-up of "." or ".." means: the kernel has a node's number out of a file handle and has forgotten the node. `undefined` for
 * any other name. Numbers and generations are the catalog's, so a handle outlives eviction, the worker, and the mount.
 * @throws FsError ESTALE for what is gone
 */
export function byNode(catalog: Catalog, names: Names, node: bigint, name: Buffer): Resolved | undefined {
  const isAbove = name.equals(ABOVE)
  if (!isAbove && !name.equals(ITSELF)) return undefined
  const inode = names.inode(node)
  if (isLost(inode)) throw new FsError('EIO', inode.failure)
  // Who still has a file without a name open keeps it in the kernel, which then has no need to ask.
  if (inode.orphan) throw new FsError('ESTALE', `inode ${node} has no name any more`)
  if (!isAbove || node === ROOT_INO) return { inode, stat: undefined }
  if (!isDirectory(inode.mode)) throw new FsError('ENOTDIR')
  const link = catalog.links.first(node)
  if (!link) throw new FsError('ESTALE', `inode ${node} has no name any more`)
  return { inode: names.directory(link.parent), stat: undefined }
}
