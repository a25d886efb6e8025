import type { Event } from '../recording/events.ts'
import type { Recording } from '../recording/record.ts'

/** Events of one recording behind which something is gone that was there before, with the name of the step. */
export function destructions(recording: Recording): Map<number, string> {
  const found = new Map<number, string>()
  for (const { seq, what } of [...named(recording), ...ofDistantStore(recording)]) found.set(seq, what)
  return found
}

interface Found {
  readonly seq: number
  readonly what: string
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
  for (const [index, event] of events.entries()) {
    const what = nameOf(event, paths, reapedAt(events, index))
    if (what !== undefined) found.push({ seq: event.seq, what })
    paths.follow(event)
  }
  return found
}

/** The reaper says so right behind each name that it removes. */
function reapedAt(events: readonly Event[], index: number): boolean {
  const next = events.slice(index + 1, index + 3).find(({ kind }) => kind === 'mark')
  return next?.data.toString().startsWith('point migration.reap.') === true
}

function nameOf(event: Event, paths: Paths, isReaped: boolean): string | undefined {
  const path = event.kind === 'unlink' ? `${paths.of(event.parent)}/${event.name}` : paths.of(event.ino)
  switch (event.kind) {
    case 'unlink':
      return unlinked(path, (event.state.mode & 0o170000) === 0o040000, isReaped)
    case 'truncate':
    case 'fallocate':
      if (path.startsWith('state/staging/'))
        return event.kind === 'truncate' ? 'staging cut' : 'staging punched'
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

function unlinked(path: string, isDirectory: boolean, isReaped: boolean): string | undefined {
  if (path.startsWith('state/staging/')) return 'staging file removed'
  if (path.startsWith('state/cache/')) return 'cache file removed'
  if (path.startsWith('store/ns/objects/'))
    return isDirectory ? 'value directory removed' : 'value file removed'
  if (!path.startsWith('volume/')) return undefined
  if (isReaped) return isDirectory ? 'legacy directory reaped' : 'legacy file reaped'
  return isDirectory ? 'legacy directory removed' : 'legacy file removed'
}

function written(path: string, offset: number): string | undefined {
  const database = path.startsWith('store/') ? 'store index' : 'catalog'
  if (/\.(db|sqlite)$/.test(path)) return `WAL folded into the ${database}`
  return path.endsWith('-wal') && offset === 0 ? `WAL of the ${database} begun` : undefined
}

function ofDistantStore({ events, storeChanges }: Recording): Found[] {
  const found: Found[] = []
  const there = new Set<string>()
  for (const { seq, kind, data } of events) {
    if (kind !== 'mark' || data.subarray(0, 6).toString() !== 'store ') continue
    const change = storeChanges[Number(data.subarray(6).toString())]
    if (!change || change.space === 'meta') continue
    const key = `${change.space} ${change.key}`
    if (change.kind === 'delete') found.push({ seq, what: `store: ${change.space} deleted` })
    else if (there.has(key)) found.push({ seq, what: `store: ${change.space} replaced` })
    there.add(key)
  }
  return found
}

/** The destruction that the cut falls behind, if nothing else was done in between. */
export function behind(found: ReadonlyMap<number, string>, cut: number, reach = 3): string | undefined {
  for (let seq = cut; seq >= Math.max(0, cut - reach); seq -= 1) {
    const what = found.get(seq)
    if (what !== undefined) return what
  }
  return undefined
}

/** How often a cut fell behind which step, by mode. */
export class Coverage {
  readonly #counts = new Map<string, Map<string, number>>()

  add(what: string, column: string, count = 1): void {
    const row = this.#counts.get(what) ?? new Map<string, number>()
    row.set(column, (row.get(column) ?? 0) + count)
    this.#counts.set(what, row)
  }

  addAll(other: Record<string, Record<string, number>>): void {
    for (const [what, row] of Object.entries(other)) {
      for (const [column, count] of Object.entries(row)) this.add(what, column, count)
    }
  }

  toJSON(): Record<string, Record<string, number>> {
    return Object.fromEntries([...this.#counts].map(([what, row]) => [what, Object.fromEntries(row)]))
  }

  table(columns: readonly string[]): string {
    const width = Math.max(0, ...[...this.#counts.keys()].map(({ length }) => length))
    const line = (first: string, cells: readonly string[]): string =>
      `  ${first.padEnd(width)} ${cells.map((cell) => cell.padStart(12)).join('')}`
    const rows = [...this.#counts]
      .sort(([one], [other]) => one.localeCompare(other))
      .map(([what, row]) =>
        line(
          what,
          columns.map((column) => String(row.get(column) ?? 0)),
        ),
      )
    return [line('', columns), ...rows].join('\n')
  }
}
