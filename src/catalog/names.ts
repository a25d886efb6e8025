/** Longest name in bytes (linux/limits.h); newer kernels let longer ones through to a FUSE file system. */
export const NAME_MAX = 255

/**
 * What is wrong with a name, in words; undefined for one that a file can have in a directory. Whatever brings names from outside asks
 * here: a store's records, a volume, a command line.
 */
export function wrongName(name: Buffer): string | undefined {
  if (name.length === 0) return 'its name is empty'
  if (name.length > NAME_MAX) return `its name is longer than ${NAME_MAX} bytes`
  const text = name.toString('latin1')
  if (text === '.' || text === '..') return 'its name is one that every directory has'
  if (text.includes('/')) return 'there is a slash in its name'
  return text.includes('\0') ? 'there is a NUL in its name' : undefined
}
