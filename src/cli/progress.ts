import { Presets, SingleBar } from 'cli-progress'
import { formatBytes, formatDuration } from '../config/units.ts'
import { callDaemon } from '../daemon/control-client.ts'
import type { Command, ControlRequest, Results } from '../daemon/control-protocol.ts'
import type { Progress } from '../daemon/engine.ts'
import type { Registration } from '../daemon/registry.ts'
import type { Context } from './context.ts'

// How often a line is written where there is no terminal to draw on.
const LINE_INTERVAL_MS = 2_000

/** Shows how far a long command is: a bar on a terminal, a line now and then elsewhere. */
export class ProgressView {
  readonly #context: Context
  #bar: SingleBar | undefined
  #lineAt = Number.NEGATIVE_INFINITY

  constructor(context: Context) {
    this.#context = context
  }

  show(progress: Progress): void {
    if (this.#context.terminal) this.#draw(progress, this.#context.terminal)
    else this.#write(progress)
  }

  /** Takes the bar away, so that the result starts on a line of its own. */
  end(): void {
    this.#bar?.stop()
    this.#bar = undefined
  }

  #draw(progress: Progress, stream: NodeJS.WriteStream): void {
    this.#bar ??= this.#newBar(stream)
    // An empty tree has no bytes to measure by.
    const byBytes = progress.bytesTotal > 0
    this.#bar.setTotal(byBytes ? progress.bytesTotal : Math.max(1, progress.filesTotal))
    this.#bar.update(byBytes ? progress.bytes : progress.files, {
      phase: progress.phase,
      figures: progressFigures(progress),
    })
  }

  #newBar(stream: NodeJS.WriteStream): SingleBar {
    const bar = new SingleBar(
      { stream, format: '{phase} {bar} {percentage}% {figures}', barsize: 24, hideCursor: true },
      Presets.shades_classic,
    )
    bar.start(1, 0, { phase: '', figures: '' })
    return bar
  }

  #write(progress: Progress): void {
    const now = performance.now()
    if (now - this.#lineAt < LINE_INTERVAL_MS) return
    this.#lineAt = now
    this.#context.note(`${progress.phase}: ${progressFigures(progress)}`)
  }
}

/** Asks the daemon for something long, and shows how far it is until the answer is there. @throws as `callDaemon` */
export async function callShown<C extends Command>(
  context: Context,
  registration: Registration,
  request: ControlRequest & { readonly command: C },
): Promise<Results[C]> {
  const view = new ProgressView(context)
  try {
    return await callDaemon<C>(registration, request, { onProgress: (progress) => view.show(progress) })
  } finally {
    view.end()
  }
}

/** `12/40 files, 3.0 MiB of 9.0 MiB, 1.0 MiB/s, 6s left` */
function progressFigures(progress: Progress): string {
  const left = progress.etaSeconds === null ? '' : `, ${formatDuration(progress.etaSeconds)} left`
  return (
    `${progress.files}/${progress.filesTotal} files, ${formatBytes(progress.bytes)} of ` +
    `${formatBytes(progress.bytesTotal)}, ${formatBytes(Math.round(progress.bytesPerSecond))}/s${left}`
  )
}
