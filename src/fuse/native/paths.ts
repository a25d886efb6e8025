import { isUtf8 } from 'node:buffer'
import { FsError } from '../../base/errors.ts'

/** What stands in a string for bytes that are not UTF-8: U+FFFD. */
const REPLACEMENT = '\ufffd'

/**
 * fuse-native hands names over as strings, in which every byte that is not UTF-8 has become U+FFFD: another name than
 * the caller's, perhaps that of another file. So such a name is refused, also one that has a true U+FFFD (P1).
 * @throws FsError EILSEQ
 */
export function refuseMangled(text: string): void {
  if (text.includes(REPLACEMENT)) {
    throw new FsError('EILSEQ', 'fuse-native cannot carry a name that is not UTF-8; use --transport kernel')
  }
}

/** The names on the way from the root. @throws FsError EILSEQ */
export function namesOf(path: string): Buffer[] {
  refuseMangled(path)
  return path
    .split('/')
    .filter((name) => name !== '')
    .map((name) => Buffer.from(name))
}

/** Directory and name of anything but the root, as strings. */
export function splitPath(path: string): { readonly directory: string; readonly name: string } {
  const at = path.lastIndexOf('/')
  return { directory: at === 0 ? '/' : path.slice(0, at), name: path.slice(at + 1) }
}

/** Whether `path` is `ancestor` or lies below it. */
export function isAtOrBelow(path: string, ancestor: string): boolean {
  return path === ancestor || path.startsWith(ancestor === '/' ? '/' : `${ancestor}/`)
}

/** Bytes of the file system's that the caller is to get as they are. @throws FsError EILSEQ */
export function exactText(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString('utf8')
  throw new FsError('EILSEQ', 'fuse-native cannot carry text that is not UTF-8; use --transport kernel')
}
