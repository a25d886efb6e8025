import { runDirectory } from '../config/paths.ts'
import { locate, nothingMounted } from '../daemon/locate.ts'
import type { Registration } from '../daemon/registry.ts'
import type { Context } from './context.ts'

/** The mount that a command's TARGET names. @throws UsageError if ferryfs has none there */
export async function mountAt(target: string, context: Context): Promise<Registration> {
  const registration = await locate(target, runDirectory(context.environment))
  if (!registration) throw nothingMounted(target)
  return registration
}
