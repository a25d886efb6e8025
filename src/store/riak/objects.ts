import { crc32 } from 'node:zlib'
import { compareVersions, type ObjectToStore, type ObjectVersion, type StoredObject } from '../contract.ts'
import type { ContentToStore, RiakContent } from './client.ts'

/**
 * How an object lies in Riak: its bytes as they are, everything else as user metadata. Riak's HTTP port hands user metadata
 * out as headers under the names stored, and takes only those that begin with X-Riak-Meta-, so these do.
 */
const VERSION = 'X-Riak-Meta-Ferryfs-Version'
const CHECK = 'X-Riak-Meta-Ferryfs-Check'
const METADATA = 'X-Riak-Meta-Ferry-'

export function encodeObject(object: ObjectToStore): ContentToStore {
  const metadata = Object.entries(object.metadata).map(([name, value]): [string, string] => [
    METADATA + encodeName(name),
    value,
  ])
  return {
    value: object.value,
    contentType: object.contentType,
    usermeta: [[VERSION, versionText(object.version)], [CHECK, checksum(object)], ...metadata],
  }
}

/** Over everything that is stored, so that a flipped bit on a replica or on the way shows. */
function checksum({ value, version, contentType, metadata }: ObjectToStore): string {
  const sorted = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1))
  const head = JSON.stringify([versionText(version), contentType, sorted])
  return crc32(value, crc32(head)).toString(16).padStart(8, '0')
}

const versionText = ({ epoch, version }: ObjectVersion): string => `${epoch}.${version}`

/** A header name takes letters, digits and a few marks; the rest becomes %XX. */
function encodeName(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9._-]/g, (character) => {
    return `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`
  })
}

/** The version of a sibling, head or whole; `undefined` for one that ferryfs did not write so. */
function versionOf(content: RiakContent): ObjectVersion | undefined {
  const text = content.usermeta.find(([name]) => name === VERSION)?.[1] ?? ''
  const match = /^(\d{1,16})\.(\d{1,16})$/.exec(text)
  return match === null ? undefined : { epoch: Number(match[1]), version: Number(match[2]) }
}

/** `undefined` where the checksum does not fit. */
function decodeObject(content: RiakContent, version: ObjectVersion): StoredObject | undefined {
  const metadata = content.usermeta
    .filter(([name]) => name.startsWith(METADATA))
    .map(([name, value]): [string, string] => [decodeName(name.slice(METADATA.length)), value])
  const { value, contentType } = content
  const object = { value, version, contentType, metadata: Object.fromEntries(metadata) }
  const expected = content.usermeta.find(([name]) => name === CHECK)?.[1]
  return expected === checksum(object) ? object : undefined
}

function decodeName(text: string): string {
  return text.replaceAll(/%([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
}

/** What a set of siblings comes down to. */
export type Resolved =
  | { readonly kind: 'absent' }
  | { readonly kind: 'object'; readonly object: StoredObject }
  | { readonly kind: 'corrupt'; readonly reason: string }

/**
 * Of siblings the highest epoch wins, then the highest version. Tombstones count only where there is nothing else: one
 * beside an object is left over from a key that was deleted and made again. Of copies of one version any whole one will do;
 * if two whole ones differ nobody can tell which is right.
 */
export function resolve(contents: readonly RiakContent[]): Resolved {
  const live = contents.filter(({ tombstone }) => !tombstone)
  if (live.length === 0) return { kind: 'absent' }
  const highest = highestVersion(live)
  if (highest === undefined)
    return { kind: 'corrupt', reason: 'it carries no version: something else wrote it' }
  const copies = live.filter((content) => {
    const version = versionOf(content)
    return version !== undefined && compareVersions(version, highest) === 0
  })
  const [whole, ...others] = copies
    .map((content) => decodeObject(content, highest))
    .filter((one) => one !== undefined)
  if (whole === undefined) {
    return { kind: 'corrupt', reason: `version ${versionText(highest)} does not fit its checksum` }
  }
  if (others.some((other) => !other.value.equals(whole.value))) {
    return { kind: 'corrupt', reason: `version ${versionText(highest)} is there twice with different bytes` }
  }
  return { kind: 'object', object: whole }
}

/** The highest version among live siblings; heads suffice. */
export function highestVersion(contents: readonly RiakContent[]): ObjectVersion | undefined {
  let highest: ObjectVersion | undefined
  for (const content of contents) {
    const version = content.tombstone ? undefined : versionOf(content)
    if (version !== undefined && (highest === undefined || compareVersions(version, highest) > 0))
      highest = version
  }
  return highest
}

export { versionOf, versionText }
