import { type Catalog, type Inode, ROOT_INO } from '../catalog/index.ts'
import { adoptAttributes } from '../content/index.ts'
import type { Stat } from '../sys/index.ts'

/** An inode with nothing in it yet; the legacy file is the authority. */
export function newInode(ino: bigint, generation: number): Inode {
  return {
    ino,
    generation,
    mode: 0,
    uid: 0,
    gid: 0,
    nlink: 1,
    rdev: 0,
    size: 0,
    blocks: 0,
    atimeNs: 0n,
    mtimeNs: 0n,
    ctimeNs: 0n,
    flags: 0,
    authority: 'legacy',
    legacyIno: undefined,
    legacyDev: 0n,
    btimeNs: 0n,
    base: 'none',
    baseLimit: 0,
    staged: 0,
    truncating: undefined,
    dirty: 0,
    key: undefined,
    epoch: 0,
    version: 0,
    layout: 0,
    digest: undefined,
    storedSize: 0,
    fingerprint: undefined,
    superseded: undefined,
    xattrs: undefined,
    target: undefined,
    orphan: false,
    failure: undefined,
    dirGeneration: 0,
    dirShards: 0,
  }
}

/** The inode of a legacy file that nobody has met before, with the file's own number if that is free. In a transaction. */
export function newLegacyInode(catalog: Catalog, device: bigint, stat: Stat): Inode {
  const free = device === 0n && stat.ino !== ROOT_INO && !catalog.get(stat.ino)
  const inode = newInode(free ? stat.ino : catalog.numbers.nextIno(), catalog.numbers.nextGeneration())
  adoptAttributes(inode, stat)
  inode.legacyIno = stat.ino
  inode.legacyDev = device
  inode.btimeNs = stat.btimeNs
  catalog.save(inode)
  return inode
}
