import { Opcode } from './protocol.ts'

/** What certainly changes something. Others that do, as a look-up of a file that was never seen, are begun and done again. */
export const CHANGES: ReadonlySet<number> = new Set([
  Opcode.SETATTR,
  Opcode.SYMLINK,
  Opcode.MKNOD,
  Opcode.MKDIR,
  Opcode.UNLINK,
  Opcode.RMDIR,
  Opcode.RENAME,
  Opcode.RENAME2,
  Opcode.LINK,
  Opcode.SETXATTR,
  Opcode.REMOVEXATTR,
  Opcode.CREATE,
  Opcode.TMPFILE,
  Opcode.WRITE,
  Opcode.FALLOCATE,
  Opcode.COPY_FILE_RANGE,
  Opcode.COPY_FILE_RANGE_64,
])

/** What may meet very many files that were never seen: too much to be done twice. */
export const LISTS: ReadonlySet<number> = new Set([Opcode.READDIR, Opcode.READDIRPLUS])
