import { z } from 'zod'

/**
 * What a client does in one turn: a system call, or the few that belong together (open, write, close). Paths are
 * relative to the client's root; a character stands for a byte (latin1), because names are bytes.
 */
export type Action =
  | {
      readonly do: 'write'
      readonly path: string
      readonly offset: number
      readonly length: number
      /** Names the bytes that are written, see `pattern`. */
      readonly seed: number
      readonly exclusive?: boolean
      readonly truncate?: boolean
      readonly append?: boolean
      readonly fsync?: boolean
    }
  /** `direct`: past the page cache, so that the daemon answers and not the kernel. */
  | {
      readonly do: 'read'
      readonly path: string
      readonly offset: number
      readonly length: number
      readonly direct: boolean
    }
  | { readonly do: 'truncate'; readonly path: string; readonly size: number }
  | { readonly do: 'rename' | 'link'; readonly from: string; readonly to: string }
  | { readonly do: 'symlink'; readonly target: string; readonly path: string }
  | { readonly do: 'unlink' | 'rmdir' | 'syncDirectory'; readonly path: string }
  | { readonly do: 'list' | 'stat' | 'readlink'; readonly path: string }
  | { readonly do: 'mkdir'; readonly path: string; readonly mode: number }
  | { readonly do: 'chmod'; readonly path: string; readonly mode: number }
  | { readonly do: 'utimes'; readonly path: string; readonly seconds: number }
  /** Opens a file and keeps it open in a slot, also when its name goes. */
  | { readonly do: 'hold'; readonly path: string; readonly slot: number }
  | { readonly do: 'readHeld'; readonly slot: number; readonly offset: number; readonly length: number }
  | {
      readonly do: 'writeHeld'
      readonly slot: number
      readonly offset: number
      readonly length: number
      readonly seed: number
    }
  | { readonly do: 'release'; readonly slot: number }
  /** Appends one line to a file that all clients append to. */
  | { readonly do: 'record'; readonly path: string; readonly line: string }
  /** Writes a new file and renames it over one that all clients replace. */
  | { readonly do: 'publish'; readonly path: string; readonly temporary: string; readonly text: string }
  /** The whole tree below a path; `content`: with the sum of every file's bytes, read past the page cache. */
  | { readonly do: 'walk'; readonly path: string; readonly content: boolean }

export type ActionName = Action['do']

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
