/**
 * Key of an object of a file's content, a chunk (level 0) or a page that lists objects of the level below. Immutable, so a
 * repeated write is harmless and a stale read impossible.
 */
export function contentKey(id: string, level: number, index: number, hash: Buffer): string {
  const mark = level === 0 ? '' : level === 1 ? 'm' : `m${level}.`
  return `${id}/${mark}${index}-${hash.toString('hex')}`
}

/** What a key of a file's content says; `undefined` for another kind of key. */
export function parseContentKey(
  key: string,
): { id: string; level: number; index: number; hash: string } | undefined {
  const match = /^([0-9a-f]+-[0-9a-f]+)\/(?:(m)(?:([2-9])\.)?)?(\d+)-([0-9a-f]{64})$/.exec(key)
  const [, id, mark, level, index, hash] = match ?? []
  if (id === undefined || hash === undefined) return undefined
  return { id, level: mark === undefined ? 0 : Number(level ?? 1), index: Number(index), hash }
}
