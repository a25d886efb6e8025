import { FsError } from '../base/errors.ts'
import { isOwnXattr } from '../base/own-names.ts'

/**
 * Extended attributes as one blob: for each, u16 length and name, u32 length and value, little endian. What ferryfs marks a
 * volume with is not among them, whatever a store says.
 */
export function encodeXattrs(xattrs: ReadonlyMap<string, Buffer>): Buffer | undefined {
  const theirs = [...xattrs].filter(([name]) => !isOwnXattr(name))
  if (theirs.length === 0) return undefined
  const parts: Buffer[] = []
  for (const [name, value] of theirs.sort(([a], [b]) => (a < b ? -1 : 1))) {
    const nameBytes = Buffer.from(name, 'latin1')
    const head = Buffer.alloc(2)
    head.writeUInt16LE(nameBytes.length)
    const length = Buffer.alloc(4)
    length.writeUInt32LE(value.length)
    parts.push(head, nameBytes, length, value)
  }
  return Buffer.concat(parts)
}

/** Names (as latin1 text, byte for byte) and values. @throws FsError EIO if the blob is damaged */
export function decodeXattrs(blob: Buffer | undefined): Map<string, Buffer> {
  const xattrs = new Map<string, Buffer>()
  if (!blob) return xattrs
  let offset = 0
  const take = (length: number): Buffer => {
    if (offset + length > blob.length) throw new FsError('EIO', 'damaged list of extended attributes')
    offset += length
    return blob.subarray(offset - length, offset)
  }
  while (offset < blob.length) {
    const name = take(take(2).readUInt16LE()).toString('latin1')
    const value = take(take(4).readUInt32LE())
    if (!isOwnXattr(name)) xattrs.set(name, value)
  }
  return xattrs
}

const CAPABILITY = 'security.capability'

/** Whoever changes a program's bytes, root included, takes its capabilities away (capabilities(7)). */
export function withoutCapability(blob: Buffer | undefined): Buffer | undefined {
  if (!blob?.includes(CAPABILITY)) return blob
  const xattrs = decodeXattrs(blob)
  xattrs.delete(CAPABILITY)
  return encodeXattrs(xattrs)
}
