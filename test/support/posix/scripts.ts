import fc from 'fast-check'

export interface HookStep {
  readonly index: number
  readonly total: number
  /**
   * Closes every descriptor, so that the file system can be unmounted and mounted again before the hook returns. What
   * was written is acknowledged by then; files without a name are gone.
   */
  release(): Promise<void>
}

/** What a caller does to the system under test while an exerciser runs. */
export interface ExerciserHooks {
  /** Called before each operation: drain, change the mode, kill a worker, take the store away. */
  between?(step: HookStep): Promise<void> | void
  /** Called after the last operation, before everything is compared once more. */
  finish?(): Promise<void> | void
}

/** An operation of a script had another outcome than it should. */
export class StepFailure extends Error {
  readonly step: number

  constructor(step: number, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'StepFailure'
    this.step = step
  }
}

export interface ScriptRun<Operation> {
  /** What is exercised, for the message. */
  readonly name: string
  /** Operations as plain records of numbers and words: they can be printed, shrunk and run again. */
  readonly operation: fc.Arbitrary<Operation>
  readonly seed: number
  readonly operations: number
  /** A script to run in place of a generated one: what a failure printed. */
  readonly replay: readonly Operation[] | undefined
  /** How long a failing script may be shrunk, in milliseconds; 0 for not at all. */
  readonly shrinkMs: number
  /** Runs a script from a fresh start. @throws StepFailure */
  run(script: readonly Operation[], hooks: boolean): Promise<void>
}

/** Runs a script of random operations; a failure is shrunk and says how to see it again. */
export async function runScript<Operation>(exercise: ScriptRun<Operation>): Promise<void> {
  const { seed, operations } = exercise
  const script = exercise.replay ?? generate(exercise)
  try {
    await exercise.run(script, true)
  } catch (error) {
    if (!(error instanceof StepFailure)) throw error
    const shortest = await shrink(exercise, script.slice(0, error.step + 1))
    const told =
      shortest === undefined
        ? `Seen only as it ran; its last operations:\n${JSON.stringify(script.slice(Math.max(0, error.step - 9), error.step + 1))}`
        : `${shortest.length} operations are enough; replay: ${JSON.stringify(shortest)}`
    const where = `step ${error.step} of ${script.length}, seed ${seed}, operations ${operations}`
    throw new Error(`${exercise.name} failed at ${where}: ${error.message}\n${told}`, { cause: error })
  }
}

function generate<Operation>({ operation, seed, operations }: ScriptRun<Operation>): readonly Operation[] {
  // Without bias: the default one makes the numbers of a first sample small.
  const whole = fc.noBias(fc.array(operation, { minLength: operations, maxLength: operations, size: 'max' }))
  return fc.sample(whole, { seed, numRuns: 1 })[0] ?? []
}

/** The shortest failing script that was found in time; undefined if the failure does not come again without hooks. */
async function shrink<Operation>(
  exercise: ScriptRun<Operation>,
  failing: readonly Operation[],
): Promise<readonly Operation[] | undefined> {
  if (exercise.shrinkMs === 0) return undefined
  const scripts = fc.array(exercise.operation, { maxLength: failing.length, size: 'max' })
  // The check returns at its time limit while a run is still under way; that one must end before its agents do.
  let running: Promise<void> = Promise.resolve()
  const details = await fc.check(
    fc.asyncProperty(scripts, (script) => {
      running = exercise.run(script, false)
      return running
    }),
    {
      examples: [[[...failing]]],
      numRuns: 1,
      seed: exercise.seed,
      interruptAfterTimeLimit: exercise.shrinkMs,
    },
  )
  await running.catch(() => undefined)
  return details.counterexample?.[0]
}
