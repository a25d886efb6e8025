import { type ContainerRuntimeClient, getContainerRuntimeClient, ImageName } from 'testcontainers'

/** Containers cannot be had here; the message says why. A suite then runs on something else, and says that. */
export class NoContainers extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'NoContainers'
  }
}

// An engine that is there answers within milliseconds; one that hangs must not hang the tests.
const ENGINE_TIMEOUT_MS = 10_000
// Images of Riak have several hundred megabytes.
const PULL_TIMEOUT_MS = 300_000

/** The container engine of this machine, as DOCKER_HOST or the usual sockets name it. @throws NoContainers */
export async function containerEngine(timeoutMs = ENGINE_TIMEOUT_MS): Promise<ContainerRuntimeClient> {
  try {
    return await within(timeoutMs, 'no answer', getContainerRuntimeClient())
  } catch (error) {
    throw new NoContainers(`no container engine (${messageOf(error)})`, { cause: error })
  }
}

/** Sees to it that the engine has the image, from its registry if need be. @throws NoContainers */
export async function needImage(
  engine: ContainerRuntimeClient,
  image: string,
  timeoutMs = PULL_TIMEOUT_MS,
): Promise<void> {
  const name = ImageName.fromString(image)
  try {
    if (await within(ENGINE_TIMEOUT_MS, 'no answer', engine.image.exists(name))) return
    await within(timeoutMs, `not pulled within ${timeoutMs / 1000} s`, engine.image.pull(name))
    // A pull that fails half way ends without an error.
    if (!(await engine.image.exists(name))) throw new Error('the pull has failed')
  } catch (error) {
    throw new NoContainers(`no image ${image} (${messageOf(error)})`, { cause: error })
  }
}

/** Rejects with `reason` if the work takes longer; the work itself goes on. */
export async function within<T>(timeoutMs: number, reason: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(reason)), timeoutMs)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** One line: engines answer with several, and what they add is of no help here. */
export function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  return text.split('\n', 1)[0]?.trim() || 'unknown reason'
}

/** Ends the container of that name, started or not, and takes its volumes with it. One that is gone is as good. */
export async function removeContainer(engine: ContainerRuntimeClient, name: string): Promise<void> {
  try {
    await engine.container.getById(name).remove({ force: true, v: true })
  } catch (error) {
    if (!(error instanceof Error && 'statusCode' in error && error.statusCode === 404)) throw error
  }
}
