import { z } from 'zod'

interface Path {
  readonly path: string
}
interface FromTo {
  readonly from: string
  readonly to: string
}
interface Range {
  readonly offset: number
  readonly length: number
}
interface Slot {
  readonly slot: number
}
/** Names the bytes that are written, see `pattern`. */
interface Seed {
  readonly seed: number
}

/**
 * What a client does in one turn: a system call, or the few that belong together (open, write, close). Paths are
 * relative to the client's root; a character stands for a byte (latin1), because names are bytes.
 */
interface Arguments {
  write: Path &
    Range &
    Seed & {
      readonly exclusive?: boolean
      readonly truncate?: boolean
      readonly append?: boolean
      readonly fsync?: boolean
    }
  /** `direct`: past the page cache, so that the daemon answers and not the kernel. */
  read: Path & Range & { readonly direct: boolean }
  truncate: Path & { readonly size: number }
  rename: FromTo
  link: FromTo
  symlink: Path & { readonly target: string }
  unlink: Path
  rmdir: Path
  mkdir: Path & { readonly mode: number }
  chmod: Path & { readonly mode: number }
  utimes: Path & { readonly seconds: number }
  /** Sets an extended attribute and reads it back. */
  xattr: Path & { readonly value: string }
  list: Path
  stat: Path
  readlink: Path
  syncDirectory: Path
  /** Opens a file and keeps it open in a slot, also when its name goes. */
  hold: Path & Slot
  readHeld: Slot & Range
  writeHeld: Slot & Range & Seed & { readonly fsync?: boolean }
  release: Slot
  /** Appends one line to a file that all clients append to. */
  record: Path & { readonly line: string; readonly fsync?: boolean }
  /** Writes a new file and renames it over one that all clients replace; with `fsync` the file before, its directory after. */
  publish: Path & { readonly temporary: string; readonly text: string; readonly fsync?: boolean }
  /** The whole tree below a path; `content`: with the sum of every file's bytes, read past the page cache. */
  walk: Path & { readonly content: boolean }
}

export type ActionName = keyof Arguments
export type ActionOf<K extends ActionName> = { readonly do: K } & Arguments[K]
export type Action = { [K in ActionName]: ActionOf<K> }[ActionName]

const statSchema = z.object({
  type: z.enum(['file', 'dir', 'symlink', 'other']),
  mode: z.number(),
  size: z.number(),
  links: z.number(),
  mtime: z.number(),
  ino: z.string(),
})
export type Stat = z.infer<typeof statSchema>

const walkedSchema = statSchema.extend({
  path: z.string(),
  target: z.string().optional(),
  sha256: z.string().optional(),
})
/** One file of a walked tree; `path` is '' for its root. */
export type Walked = z.infer<typeof walkedSchema>

/** The step of an action that failed; `written` and `data` are what was done before. */
export const replySchema = z.object({
  id: z.number(),
  errno: z.string().optional(),
  step: z.string().optional(),
  written: z.number().optional(),
  data: z.string().optional(),
  names: z.array(z.string()).optional(),
  stat: statSchema.optional(),
  tree: z.array(walkedSchema).optional(),
})
export type Reply = z.infer<typeof replySchema>

/** Bytes that differ at every offset and from every other seed's, the same in client and model. */
export function pattern(seed: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length)
  let state = (seed * 2_654_435_761 + 12_345) >>> 0
  for (let at = 0; at < length; at += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    bytes[at] = state >>> 24
  }
  return bytes
}

/** One line for a person who follows a case. */
export function describeAction(action: Action): string {
  const { do: name, ...rest } = action
  const words = Object.entries(rest)
    .filter(([, value]) => value !== false && value !== undefined)
    .map(([key, value]) => `${key}=${typeof value === 'string' ? JSON.stringify(value) : String(value)}`)
  return `${name} ${words.join(' ')}`.trimEnd()
}
