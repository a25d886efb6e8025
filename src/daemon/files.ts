import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { faultPoint } from '../base/faults.ts'
import { O_READ } from '../base/plain-file.ts'
import { sealJson, unsealJson } from '../base/sealed-json.ts'

/**
 * Replaces a small file by a JSON object, as a whole: a reader, also after a power loss, sees the old one or the new, never a part.
 */
export function replaceFile(path: string, value: Readonly<Record<string, unknown>>): void {
  const temporary = `${path}.${process.pid}.tmp`
  const descriptor = openSync(temporary, 'w', 0o600)
  try {
    writeSync(descriptor, sealJson(value))
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
  putInPlace(temporary, path)
}

/** Gives a file that is whole and on the medium its name, for good. */
export function putInPlace(temporary: string, path: string): void {
  faultPoint('daemon.file.written')
  renameSync(temporary, path)
  syncDirectory(dirname(path))
}

/** That a file is gone, for good; it may have been gone. */
export function removeFile(path: string): void {
  rmSync(path, { force: true })
  syncDirectory(dirname(path))
}

function syncDirectory(path: string): void {
  const directory = openSync(path, 'r')
  try {
    fsyncSync(directory)
  } finally {
    closeSync(directory)
  }
}

/**
 * A small JSON object from a file that `replaceFile` wrote. Checked by hand where it is used: the supervisor lives for months and does without the
 * 20 MB of a schema library.
 * @throws the error of open(2), SyntaxError
 */
export function readJsonObject(path: string): Readonly<Record<string, unknown>> {
  return unsealJson(readFileSync(path, { flag: O_READ }))
}
