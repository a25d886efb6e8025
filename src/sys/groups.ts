import { readFileSync } from 'node:fs'

/** Whether a process is in a group: of `pid` 0, which cannot be seen from here, only in its own. */
export function isInGroup(
  { gid, pid }: { readonly gid: number; readonly pid: number },
  group: number,
): boolean {
  return gid === group || (pid > 0 && supplementaryGroups(pid).includes(group))
}

/** proc_pid_status(5) */
function supplementaryGroups(pid: number): number[] {
  try {
    const groups = /^Groups:[ \t]*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? ''
    return groups.split(' ').filter(Boolean).map(Number)
  } catch {
    // It has ended, or belongs to another namespace.
    return []
  }
}
