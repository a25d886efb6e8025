// It becomes the name of a directory or a bucket, and an operator types it into other tools.
const NAMESPACE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/

/** What a namespace's name may be, for messages. */
export const NAMESPACE_RULE = '1 to 63 letters, digits, ".", "_" or "-", the first a letter or digit'

/** Whether a tree in a store may have this name. */
export function isNamespace(name: string): boolean {
  return NAMESPACE.test(name)
}
