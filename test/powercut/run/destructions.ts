import { decodeShard, parseShardKey } from '../../../src/content/index.ts'
import type { ObjectToStore } from '../../../src/store/contract.ts'
import type { StoreChange } from '../recording/logged-store.ts'
import type { Event } from '../recording/events.ts'
import { STRAY_ID } from '../product/daemon.ts'
import type { Recording } from '../recording/record.ts'
import type { Destruction } from './rows.ts'

const known = new WeakMap<Recording, Map<number, Destruction>>()

/** Events of one recording behind which something is gone that was there before, with the name of the step. */
export function destructionsOf(recording: Recording): ReadonlyMap<number, Destruction> {
  let found = known.get(recording)
  if (!found) {
    found = new Map([...named(recording), ...ofStore(recording)].map(({ seq, what }) => [seq, what]))
    known.set(recording, found)
  }
  return found
}

interface Found {
  readonly seq: number
  readonly what: Destruction
}

/** Paths of files and directories, as they were when something was done to them. */
class Paths {
  readonly #places = new Map<number, { parent: number; name: string }>()

  constructor(recording: Recording) {
    for (const [volume, { base }] of Object.entries(recording.volumes)) {
      this.#places.set(base.root, { parent: 0, name: volume })
      for (const file of base.files.values()) {
        for (const [name, ino] of file.children) this.#places.set(ino, { parent: file.ino, name })
      }
    }
  }

  follow({ kind, ino, parent, parent2, name, name2 }: Event): void {
    if (kind === 'create' || kind === 'link') this.#places.set(ino, { parent, name })
    if (kind === 'rename') this.#places.set(ino, { parent: parent2, name: name2 })
  }

  of(ino: number): string {
    const place = this.#places.get(ino)
    if (!place) return '?'
    return place.parent === 0 ? place.name : `${this.of(place.parent)}/${place.name}`
  }
}

function named(recording: Recording): Found[] {
  const found: Found[] = []
  const paths = new Paths(recording)
  const { events } = recording
  const killed = new Set(recording.kills.map(({ at }) => at))
  let starting = true
  for (const [index, event] of events.entries()) {
    const { seq } = event
    if (event.kind === 'mark' && event.data.toString() === 'mounted') starting = false
    const what = nameOf(event, paths, { reaped: reapedAt(events, index), starting })
    if (killed.has(seq)) starting = true
    if (what !== undefined) found.push({ seq, what })
    paths.follow(event)
  }
  return found
}

type Reaped = 'copy' | 'whiteout' | undefined

/** The reaper says so right behind each name that it removes. */
function reapedAt(events: readonly Event[], index: number): Reaped {
  const next = events.slice(index + 1, index + 3).find(({ kind }) => kind === 'mark')
  const point = next?.data.toString() ?? ''
  if (!point.startsWith('point migration.reap.')) return undefined
  return point.endsWith('whiteout-removed') ? 'whiteout' : 'copy'
}

interface When {
  readonly reaped: Reaped
  /** Before the mount is there: recovery. */
  readonly starting: boolean
}

function nameOf(event: Event, paths: Paths, when: When): Destruction | undefined {
  const path = event.kind === 'unlink' ? `${paths.of(event.parent)}/${event.name}` : paths.of(event.ino)
  switch (event.kind) {
    case 'unlink':
      return unlinked(path, (event.state.mode & 0o170000) === 0o040000, when)
    case 'truncate':
    case 'fallocate':
      if (path.startsWith('state/staging/')) {
        if (when.starting) return 'staging leftover cut'
        return event.kind === 'truncate' ? 'staging cut' : 'staging punched'
      }
      return path.startsWith('volume/') && event.kind === 'truncate' ? 'legacy file cut' : undefined
    case 'rename':
      if (path.startsWith('volume/')) return event.other === 0 ? 'legacy name moved' : 'legacy name replaced'
      return path.startsWith('state/cache/') ? undefined : 'state file renamed'
    case 'write':
      return written(path, event.a)
    default:
      return undefined
  }
}

function unlinked(path: string, isDirectory: boolean, { reaped, starting }: When): Destruction | undefined {
  if (path.startsWith('state/staging/')) return starting ? 'staging leftover removed' : 'staging file removed'
  if (path.startsWith('state/cache/')) return 'cache file removed'
  if (path.startsWith('store/ns/objects/'))
    return isDirectory ? 'value directory removed' : 'value file removed'
  if (!path.startsWith('volume/')) return undefined
  if (reaped === 'whiteout') return 'legacy file of a whiteout reaped'
  if (reaped) return isDirectory ? 'legacy directory reaped' : 'legacy file reaped'
  return isDirectory ? 'legacy directory removed' : 'legacy file removed'
}

function written(path: string, offset: number): Destruction | undefined {
  if (path.startsWith('volume/')) return 'legacy bytes written'
  const isStore = path.startsWith('store/')
  if (/\.(db|sqlite)$/.test(path))
    return isStore ? 'WAL folded into the store index' : 'WAL folded into the catalog'
  if (!path.endsWith('-wal') || offset !== 0) return undefined
  return isStore ? 'WAL of the store index begun' : 'WAL of the catalog begun'
}

function ofStore({ events, storeChanges, before }: Recording): Found[] {
  const found: Found[] = []
  const there = new Map<string, ObjectToStore>()
  const shards = shardsOfFiles(storeChanges)
  for (const change of storeChanges.slice(0, before?.stored ?? 0)) note(change, there)
  let preserved = false
  for (const { seq, kind, data } of events) {
    if (kind !== 'mark') continue
    if (data.toString() === 'point content.preserve.committed') preserved = true
    if (data.subarray(0, 6).toString() !== 'store ') continue
    const change = storeChanges[Number(data.subarray(6).toString())]
    if (!change) continue
    let what = changed(change, there, shards)
    if (preserved && what === 'inline object replaced') {
      what = 'preserved inline object replaced'
      preserved = false
    }
    if (what !== undefined) found.push({ seq, what })
    note(change, there)
  }
  return found
}

/** By file: all shards that name it at any time of the recording, before it leaves one of them or behind that. */
function shardsOfFiles(changes: readonly StoreChange[]): Map<bigint, Set<string>> {
  const shards = new Map<bigint, Set<string>>()
  for (const change of changes) {
    if (change.kind !== 'put' || change.space !== 'dirs' || !parseShardKey(change.key)) continue
    for (const ino of namedIn(change.key, change.object)) {
      shards.set(ino, (shards.get(ino) ?? new Set()).add(change.key))
    }
  }
  return shards
}

function namedIn(key: string, object: ObjectToStore): bigint[] {
  const { entries, leaving } = decodeShard(key, object)
  return [...entries, ...leaving].map(({ ino }) => ino)
}

function note(change: StoreChange, there: Map<string, ObjectToStore>): void {
  const key = `${change.space} ${change.key}`
  if (change.kind === 'put') there.set(key, change.object)
  else there.delete(key)
}

function changed(
  change: StoreChange,
  there: ReadonlyMap<string, ObjectToStore>,
  shards: ReadonlyMap<bigint, ReadonlySet<string>>,
): Destruction | undefined {
  const { space, key } = change
  const before = there.get(`${space} ${key}`)
  if (!before || space === 'meta') return undefined
  if (change.kind === 'delete')
    return key.startsWith(STRAY_ID) ? 'stray object deleted' : `object of ${space} deleted`
  switch (space) {
    case 'files':
      return before.metadata['ferry-layout'] === 'inline' ? 'inline object replaced' : 'manifest replaced'
    case 'dirs':
      return leaves(key, before, change.object, shards) ? 'name left its record' : 'record replaced'
    default:
      return undefined
  }
}

/** A shard names a file no more that another one names, now or later. */
function leaves(
  key: string,
  before: ObjectToStore,
  after: ObjectToStore,
  shards: ReadonlyMap<bigint, ReadonlySet<string>>,
): boolean {
  if (!parseShardKey(key)) return false
  const kept = new Set(namedIn(key, after))
  return namedIn(key, before).some((ino) => !kept.has(ino) && (shards.get(ino)?.size ?? 0) > 1)
}

/** The destruction that the cut falls behind, if nothing else was done in between. */
export function behind(
  found: ReadonlyMap<number, Destruction>,
  cut: number,
  reach = 3,
): Destruction | undefined {
  for (let seq = cut; seq >= Math.max(0, cut - reach); seq -= 1) {
    const what = found.get(seq)
    if (what !== undefined) return what
  }
  return undefined
}
