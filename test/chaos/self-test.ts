import type { Options } from './options.ts'
export async function selfTest(_o: Options, _log: (line: string) => void): Promise<boolean> {
  return false
}
