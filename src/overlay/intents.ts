import { z } from 'zod'
import { FsError } from '../base/errors.ts'

/** An operation on the legacy volume that was about to begin, with all that is needed to tell whether it took place. */
export type LegacyIntent =
  | {
      readonly kind: 'create'
      readonly parent: bigint
      readonly name: Buffer
      readonly mode: number
      readonly rdev: number
      readonly target: Buffer | undefined
      readonly uid: number
      readonly gid: number
      readonly umask: number
    }
  | {
      readonly kind: 'unlink'
      readonly parent: bigint
      readonly name: Buffer
      readonly ino: bigint
      /** It was the file's only name. */
      readonly last: boolean
    }
  | {
      readonly kind: 'rename'
      readonly parent: bigint
      readonly name: Buffer
      readonly newParent: bigint
      readonly newName: Buffer
      readonly exchange: boolean
      /** A device that stands for "nothing here" is left under the old name. */
      readonly whiteout: boolean
      readonly ino: bigint
      readonly target: bigint | undefined
      /** The replaced file had no other name. */
      readonly last: boolean
      /** The store's copies were current before. */
      readonly current: boolean
      readonly targetCurrent: boolean
    }
  | {
      readonly kind: 'link'
      readonly parent: bigint
      readonly name: Buffer
      readonly ino: bigint
      readonly current: boolean
    }

const big = z
  .string()
  .regex(/^\d{1,20}$/)
  .transform(BigInt)
const bytes = z.base64().transform((text) => Buffer.from(text, 'base64'))
const schema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('create'),
    parent: big,
    name: bytes,
    mode: z.int(),
    rdev: z.int(),
    target: bytes.optional(),
    uid: z.int(),
    gid: z.int(),
    umask: z.int(),
  }),
  z.object({ kind: z.literal('unlink'), parent: big, name: bytes, ino: big, last: z.boolean() }),
  z.object({
    kind: z.literal('rename'),
    parent: big,
    name: bytes,
    newParent: big,
    newName: bytes,
    exchange: z.boolean(),
    // Of a worker from before there were any: none.
    whiteout: z.boolean().default(false),
    ino: big,
    target: big.optional(),
    last: z.boolean(),
    current: z.boolean(),
    targetCurrent: z.boolean(),
  }),
  z.object({ kind: z.literal('link'), parent: big, name: bytes, ino: big, current: z.boolean() }),
])

export function encodeIntent(intent: LegacyIntent): string {
  return JSON.stringify(intent, function (this: Record<string, unknown>, key: string, value: unknown) {
    const raw = this[key]
    if (typeof raw === 'bigint') return raw.toString()
    return Buffer.isBuffer(raw) ? raw.toString('base64') : value
  })
}

/** @throws FsError EIO if the catalog holds something else */
export function decodeIntent(text: string): LegacyIntent {
  const parsed = schema.safeParse(JSON.parse(text))
  if (!parsed.success)
    throw new FsError('EIO', `an intent in the catalog cannot be read: ${parsed.error.message}`)
  const intent = parsed.data
  if (intent.kind === 'create') return { ...intent, target: intent.target }
  if (intent.kind === 'rename') return { ...intent, target: intent.target }
  return intent
}
