import { spawn } from 'node:child_process'
import { resolve as absolute } from 'node:path'
import { NODE_FLAGS } from './process.ts'

/**
 * What stat(2) and realpath(3) say of a path; `hung` if they say nothing in time. `EILSEQ`: a symlink leads to a name that is not
 * UTF-8, which a string would make that of another file.
 */
export type Probe =
  | { readonly kind: 'directory' | 'other'; readonly realPath: string }
  | { readonly kind: 'error'; readonly code: string }
  | { readonly kind: 'hung' }

const SCRIPT = `
  const fs = require('node:fs')
  const buffer = require('node:buffer')
  let answer
  try {
    const bytes = fs.realpathSync.native(process.argv[1], 'buffer')
    if (!buffer.isUtf8(bytes)) throw Object.assign(new Error(), { code: 'EILSEQ' })
    const realPath = bytes.toString()
    answer = { kind: fs.statSync(realPath).isDirectory() ? 'directory' : 'other', realPath }
  } catch (error) {
    answer = { kind: 'error', code: error.code ?? 'EIO' }
  }
  process.stdout.write(JSON.stringify(answer))
`

/**
 * Looks at a path from a process of its own, because the path may lie on a mount that does not answer: a call that
 * hangs in the kernel would take this process with it, which may be the one that has to answer.
 */
export function probePath(path: string, timeoutMs: number): Promise<Probe> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [...NODE_FLAGS, '-e', SCRIPT, '--', absolute(path)], {
      cwd: '/',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const deadline = setTimeout(() => {
      // A process in an uninterruptible wait outlives even this; it is left behind rather than waited for.
      child.kill('SIGKILL')
      child.stdout.destroy()
      child.unref()
      resolve({ kind: 'hung' })
    }, timeoutMs)
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
    child.once('error', () => {
      clearTimeout(deadline)
      resolve({ kind: 'error', code: 'EIO' })
    })
    child.once('close', () => {
      clearTimeout(deadline)
      resolve(parseProbe(text))
    })
  })
}

function parseProbe(text: string): Probe {
  const fields: { kind?: unknown; code?: unknown; realPath?: unknown } = text === '' ? {} : JSON.parse(text)
  const { kind, realPath, code } = fields
  if ((kind === 'directory' || kind === 'other') && typeof realPath === 'string') return { kind, realPath }
  return { kind: 'error', code: typeof code === 'string' ? code : 'EIO' }
}
