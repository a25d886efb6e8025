import { z } from 'zod'
import { timeText } from '../base/attribute-ranges.ts'
import type { FileRef, FileState, TreeChunk, TreeEntry, TreeFile } from '../migration/index.ts'

const whole = z.string().regex(/^-?\d{1,40}$/)
const chunk = z.object({ index: z.int().nonnegative(), hash: z.string().optional() })

const reference = z.object({ ino: whole, generation: z.number() })
const state = reference.extend({ stamp: z.string() })

/** What is asked of a tree; the name of `look` is the body of its frame. */
export const treeRequestSchema = z.discriminatedUnion('op', [
  z.object({ id: z.int(), op: z.literal('totals') }),
  z.object({ id: z.int(), op: z.literal('root') }),
  z.object({ id: z.int(), op: z.literal('list'), directory: reference, from: z.string().optional() }),
  z.object({ id: z.int(), op: z.literal('look'), directory: reference }),
  z.object({ id: z.int(), op: z.literal('chunks'), file: state, from: z.int().nonnegative() }),
  z.object({ id: z.int(), op: z.literal('read'), file: state, index: z.int().nonnegative() }),
  z.object({ id: z.int(), op: z.literal('stamp'), file: reference }),
  z.object({ id: z.int(), op: z.literal('ping') }),
])
export type TreeRequest = z.infer<typeof treeRequestSchema>

/** An answer; the bytes of `read` are the body of its frame. `alive` alone: the worker is busy, and well. */
export const treeAnswerSchema = z.union([
  z.object({ alive: z.literal(true) }),
  z.object({ id: z.int(), value: z.unknown() }),
  z.object({
    id: z.int(),
    error: z.object({ kind: z.enum(['away', 'changed', 'gone', 'other']), message: z.string() }),
  }),
])

const fileSchema = z.object({
  ino: whole,
  generation: z.number(),
  stamp: z.string(),
  attributes: z.object({
    mode: z.number(),
    nlink: z.number(),
    uid: z.number(),
    gid: z.number(),
    rdev: z.number(),
    size: z.number(),
    blocks: z.number(),
    blksize: z.number(),
    atimeNs: timeText,
    mtimeNs: timeText,
    ctimeNs: timeText,
    flags: z.int().nonnegative().optional(),
  }),
  xattrs: z.string().optional(),
  target: z.string().optional(),
  chunks: z.array(chunk).optional(),
  doubt: z.string().optional(),
})
const entrySchema = z.object({ name: z.string(), file: fileSchema.optional(), reason: z.string().optional() })

export const treeValues = {
  totals: z.object({ files: z.number(), bytes: z.number(), losses: z.array(z.string()).optional() }),
  root: fileSchema,
  list: z.object({ entries: z.array(entrySchema), next: z.string().optional() }),
  look: entrySchema.nullable(),
  chunks: z.object({ chunks: z.array(chunk), next: z.number().optional() }),
  read: z.null(),
  stamp: z.string().nullable(),
  ping: z.null(),
} as const

type SentFile = z.infer<typeof fileSchema>
type SentEntry = z.infer<typeof entrySchema>
type SentChunk = z.infer<typeof chunk>

// Names, targets and attributes are bytes.
const encoded = (bytes: Buffer): string => bytes.toString('base64')
const decoded = (text: string): Buffer => Buffer.from(text, 'base64')

export const sentReference = ({ ino, generation }: FileRef) => ({ ino: ino.toString(), generation })
export const receivedReference = ({ ino, generation }: z.infer<typeof reference>): FileRef => ({
  ino: BigInt(ino),
  generation,
})

export const sentState = (file: FileState) => ({ ...sentReference(file), stamp: file.stamp })
export const receivedState = (file: z.infer<typeof state>): FileState => ({
  ...receivedReference(file),
  stamp: file.stamp,
})

export const sentChunks = (chunks: readonly TreeChunk[]): SentChunk[] =>
  chunks.map(({ index, hash }) => ({ index, ...(hash && { hash: encoded(hash) }) }))
export const receivedChunks = (chunks: readonly SentChunk[]): TreeChunk[] =>
  chunks.map(({ index, hash }) => ({ index, hash: hash === undefined ? undefined : decoded(hash) }))

export function sentFile(file: TreeFile): SentFile {
  const { ino: _, atimeNs, mtimeNs, ctimeNs, ...numbers } = file.attributes
  const { mode, nlink, uid, gid, rdev, size, blocks, blksize, flags } = numbers
  return {
    ...sentState(file),
    attributes: {
      ...{ mode, nlink, uid, gid, rdev, size, blocks, blksize },
      atimeNs: atimeNs.toString(),
      mtimeNs: mtimeNs.toString(),
      ctimeNs: ctimeNs.toString(),
      ...(flags && { flags }),
    },
    ...(file.xattrs && { xattrs: encoded(file.xattrs) }),
    ...(file.target && { target: encoded(file.target) }),
    ...(file.chunks && { chunks: sentChunks(file.chunks) }),
    ...(file.doubt && { doubt: file.doubt }),
  }
}

export function receivedFile(sent: SentFile): TreeFile {
  const { atimeNs, mtimeNs, ctimeNs, flags, ...numbers } = sent.attributes
  return {
    ...receivedState(sent),
    attributes: {
      ...numbers,
      ino: BigInt(sent.ino),
      atimeNs: BigInt(atimeNs),
      mtimeNs: BigInt(mtimeNs),
      ctimeNs: BigInt(ctimeNs),
      ...(flags && { flags }),
    },
    xattrs: sent.xattrs === undefined ? undefined : decoded(sent.xattrs),
    target: sent.target === undefined ? undefined : decoded(sent.target),
    chunks: sent.chunks && receivedChunks(sent.chunks),
    doubt: sent.doubt,
  }
}

export const sentEntry = ({ name, file, reason }: TreeEntry): SentEntry =>
  file ? { name: encoded(name), file: sentFile(file) } : { name: encoded(name), reason }

export function receivedEntry({ name, file, reason }: SentEntry): TreeEntry {
  return file
    ? { name: decoded(name), file: receivedFile(file) }
    : { name: decoded(name), reason: reason ?? 'it cannot be looked at' }
}
