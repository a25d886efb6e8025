/** What has to be taken away again when the run is interrupted: mounts and processes outlive the one that made them. */
const left = new Set<() => Promise<void>>()

/** Remembers how to take something away; the function returned forgets it, because it has been. */
export function takeAwayLater(body: () => Promise<void>): () => void {
  left.add(body)
  return () => void left.delete(body)
}

/** SIGINT and SIGTERM take everything away and end the process with that status. */
export function cleanUpWhenInterrupted(status: number): void {
  const end = (): void => {
    const bodies = [...left].reverse()
    left.clear()
    Promise.allSettled(bodies.map((body) => body())).then(() => process.exit(status))
  }
  process.once('SIGINT', end)
  process.once('SIGTERM', end)
}
