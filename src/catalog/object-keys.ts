/** Key of a chunk: immutable, so a repeated write is harmless and a stale read impossible. */
export function chunkKey(id: string, index: number, hash: Buffer): string {
  return `${id}/${index}-${hash.toString('hex')}`
}

/** Key of a page of chunk hashes. */
export function pageKey(id: string, index: number, hash: Buffer): string {
  return `${id}/m${index}-${hash.toString('hex')}`
}

/** What a chunk's or page's key says; `undefined` for another kind of key. */
export function parseContentKey(
  key: string,
): { id: string; kind: 'chunk' | 'page'; index: number; hash: string } | undefined {
  const match = /^([0-9a-f]+-[0-9a-f]+)\/(m?)(\d+)-([0-9a-f]{64})$/.exec(key)
  const [, id, mark, index, hash] = match ?? []
  if (id === undefined || hash === undefined) return undefined
  return { id, kind: mark === 'm' ? 'page' : 'chunk', index: Number(index), hash }
}
