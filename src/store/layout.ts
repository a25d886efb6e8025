import { isUtf8 } from 'node:buffer'
import { createHash } from 'node:crypto'
import { MAX_KEY_BYTES } from './validate.ts'

// After "%" an escape has two hex digits, so these two can stand nowhere else.
const HASH_MARK = '%~'
const ID_MARK = '%@'

// "%~" and SHA-256 in hex.
const HASH_SUFFIX_BYTES = 2 + 64

function escapeBytes(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
  return text
}

// Cc: the control characters U+0000 to U+001F and U+007F (DEL) to U+009F.
const TO_ESCAPE = /[\p{Cc}%]/gu

function escapeText(text: string): string {
  return text.replace(TO_ESCAPE, (character) => escapeBytes(Buffer.from(character)))
}

/** Bytes of the UTF-8 character that starts at `at`, or 0 if none does. */
function characterLength(bytes: Buffer, at: number): number {
  const lead = bytes[at] ?? 0
  const length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4
  return at + length <= bytes.length && isUtf8(bytes.subarray(at, at + length)) ? length : 0
}

function escapePath(path: Buffer): string {
  if (isUtf8(path)) return escapeText(path.toString('utf8'))
  let key = ''
  let good = 0
  let at = 0
  while (at < path.length) {
    const length = characterLength(path, at)
    if (length > 0) {
      at += length
      continue
    }
    key += escapeText(path.toString('utf8', good, at)) + escapeBytes(path.subarray(at, at + 1))
    at += 1
    good = at
  }
  return key + escapeText(path.toString('utf8', good, at))
}

/** The longest start of `key` within `room` bytes that ends neither inside a character nor inside an escape. */
function startOf(key: string, room: number): string {
  const bytes = Buffer.from(key)
  let end = Math.min(room, bytes.length)
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1
  const percent = bytes.lastIndexOf('%', end - 1)
  if (percent >= 0 && percent + 3 > end) end = percent
  return bytes.toString('utf8', 0, end)
}

/**
 * Key of the object of a file, from its path relative to the root of the tree. Text stays as it is, so that an operator
 * can guess the key; control characters, "%" and bytes that are not UTF-8 become %XX. Two paths never have one key. A key
 * that would be longer than 16,384 bytes is cut and ends in "%~" and the SHA-256 of the path.
 *
 * `id` (letters, digits, ".", "-" and "_") makes another key for the same path, for a file that comes to a path whose
 * plain key still belongs to a file that was renamed away.
 *
 * @throws RangeError for the empty path, which is the root and no file
 */
export function fileKey(path: Buffer, id?: string): string {
  if (path.length === 0) throw new RangeError('the root has no file key')
  const suffix = id === undefined ? '' : ID_MARK + id
  const key = escapePath(path)
  const room = MAX_KEY_BYTES - Buffer.byteLength(suffix)
  if (Buffer.byteLength(key) <= room) return key + suffix
  const hash = createHash('sha256').update(path).digest('hex')
  return startOf(key, room - HASH_SUFFIX_BYTES) + HASH_MARK + hash + suffix
}

/** The path that a file's key was made from; `undefined` if it was too long to be kept, or if it is no such key. */
export function pathOfFileKey(key: string): Buffer | undefined {
  const mark = key.indexOf(ID_MARK)
  const escaped = mark < 0 ? key : key.slice(0, mark)
  if (escaped === '' || /%(?![0-9A-F]{2})/.test(escaped)) return undefined
  const parts = escaped.split(/(%[0-9A-F]{2})/)
  return Buffer.concat(
    parts.map((part, index) => (index % 2 === 0 ? Buffer.from(part) : Buffer.from(part.slice(1), 'hex'))),
  )
}

// What a browser or curl makes of an inline file; only types that change what one sees.
const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '7z': 'application/x-7z-compressed',
  avi: 'video/x-msvideo',
  avif: 'image/avif',
  bmp: 'image/bmp',
  bz2: 'application/x-bzip2',
  css: 'text/css',
  csv: 'text/csv',
  doc: 'application/msword',
  docx: 'application/vnd.openxmlformats-officedocument.wordprocessingml.document',
  eml: 'message/rfc822',
  epub: 'application/epub+zip',
  flac: 'audio/flac',
  gif: 'image/gif',
  gz: 'application/gzip',
  htm: 'text/html',
  html: 'text/html',
  ico: 'image/vnd.microsoft.icon',
  ics: 'text/calendar',
  jpeg: 'image/jpeg',
  jpg: 'image/jpeg',
  js: 'text/javascript',
  json: 'application/json',
  log: 'text/plain',
  m4a: 'audio/mp4',
  md: 'text/markdown',
  mjs: 'text/javascript',
  mov: 'video/quicktime',
  mp3: 'audio/mpeg',
  mp4: 'video/mp4',
  odp: 'application/vnd.oasis.opendocument.presentation',
  ods: 'application/vnd.oasis.opendocument.spreadsheet',
  odt: 'application/vnd.oasis.opendocument.text',
  ogg: 'audio/ogg',
  otf: 'font/otf',
  pdf: 'application/pdf',
  png: 'image/png',
  ppt: 'application/vnd.ms-powerpoint',
  pptx: 'application/vnd.openxmlformats-officedocument.presentationml.presentation',
  rtf: 'application/rtf',
  svg: 'image/svg+xml',
  tar: 'application/x-tar',
  tif: 'image/tiff',
  tiff: 'image/tiff',
  ttf: 'font/ttf',
  txt: 'text/plain',
  wasm: 'application/wasm',
  wav: 'audio/wav',
  webm: 'video/webm',
  webp: 'image/webp',
  woff: 'font/woff',
  woff2: 'font/woff2',
  xhtml: 'application/xhtml+xml',
  xls: 'application/vnd.ms-excel',
  xlsx: 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet',
  xml: 'application/xml',
  xz: 'application/x-xz',
  yaml: 'application/yaml',
  yml: 'application/yaml',
  zip: 'application/zip',
  zst: 'application/zstd',
}

/** MIME type by the extension of a path or of a file's key; `application/octet-stream` where that says nothing. */
export function contentTypeOf(path: string): string {
  const extension = /[^/]\.([A-Za-z0-9]{1,8})(?:%@[^/]*)?$/.exec(path)?.[1]?.toLowerCase() ?? ''
  return (Object.hasOwn(CONTENT_TYPES, extension) && CONTENT_TYPES[extension]) || 'application/octet-stream'
}
