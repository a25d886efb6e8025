import type { Readable } from 'node:stream'

/**
 * Calls back for every line of a stream, and for what stands after the last line feed when it ends. (readline raises the
 * stream's errors a second time, where nobody listens.)
 * @param maxLength a longer line is handed over in parts, so that a stream without line feeds takes no memory (P6)
 */
export function onLines(stream: Readable, maxLength: number, onLine: (line: string) => void): void {
  let rest = ''
  stream.setEncoding('utf8')
  stream.on('data', (part: string) => {
    const lines = (rest + part).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) onLine(line)
    if (rest.length <= maxLength) return
    onLine(rest)
    rest = ''
  })
  stream.once('end', () => {
    if (rest !== '') onLine(rest)
  })
}
