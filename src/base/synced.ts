import type { fsync } from 'node:fs'

/** Resolves once fsync(2) or fdatasync(2), whichever is given, has ended well for the descriptor. @throws its error */
export const synced = (sync: typeof fsync, descriptor: number): Promise<void> =>
  new Promise((resolve, reject) => sync(descriptor, (error) => (error ? reject(error) : resolve())))
