import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { eventually } from '../daemon/place.ts'
import { Random } from '../rig/random.ts'
import { clockNs, type Question, type Seen } from './questions.ts'
import type { TrueFile, Truth } from './truth.ts'
import type { PastWriter } from './writer.ts'

const READERS = 2
/** Questions that a reader gets at once. */
const TOGETHER = 24
/** Files that a reader keeps open. */
const SLOTS = 4
/** Changes while a reader answers so many questions, at most. */
const MOST_CHANGES = 6

const MAIN = fileURLToPath(new URL('./reader-main.ts', import.meta.url))

/** A process that looks at the mount, and what it keeps open. */
class Reader {
  readonly #child: ChildProcess
  readonly held = new Map<number, TrueFile>()

  constructor(mount: string) {
    this.#child = fork(MAIN, [mount], {
      cwd: '/',
      execArgv: ['--disable-warning=ExperimentalWarning'],
      env: { PATH: process.env.PATH },
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
  }

  async ask(questions: readonly Question[]): Promise<Seen[]> {
    const ended = new AbortController()
    const answer = once(this.#child, 'message', { signal: ended.signal })
    const exit = once(this.#child, 'exit', { signal: ended.signal })
    for (const one of [answer, exit]) one.catch(() => undefined)
    this.#child.send(questions)
    try {
      const [seen] = await Promise.race([
        answer,
        exit.then(() => {
          throw new Error('a reader has ended')
        }),
      ])
      // The other end is our own code.
      return seen as Seen[]
    } finally {
      ended.abort()
    }
  }

  stop(): void {
    this.#child.kill('SIGKILL')
  }
}

interface Options {
  readonly mount: string
  readonly seed: number
  /** How many questions readers ask. */
  readonly answers: number
  readonly truth: Truth
  readonly writer: PastWriter
}

/**
 * Readers look through the mount while the volume behind it is changed at any moment. The same seed draws the same questions and
 * changes; in which order they meet is the machine's affair. What was wrong, and how many answers there were.
 */
export async function readBesideWriter(options: Options): Promise<{ answers: number; violations: string[] }> {
  const { mount, seed, truth, writer } = options
  const readers = Array.from({ length: READERS }, () => new Reader(mount))
  truth.isHeld = (file) => readers.some(({ held }) => [...held.values()].includes(file))
  const violations: string[] = []
  const asked = new Map<Reader, number>()
  let answers = 0
  const changing = new Random(seed + 1000)
  const one = async (reader: Reader, nth: number): Promise<void> => {
    const random = new Random(seed + nth)
    while (answers < options.answers && violations.length === 0) {
      const questions = Array.from({ length: TOGETHER }, () => draw(random, writer, reader))
      asked.set(reader, clockNs())
      const answered = reader.ask(questions)
      for (let left = changing.below(MOST_CHANGES + 1); left > 0; left -= 1) {
        writer.change()
        await new Promise((resolve) => setImmediate(resolve))
      }
      const all = await answered
      for (const [index, question] of questions.entries()) {
        const seen = all[index]
        const wrong = seen && judge(truth, reader, question, seen)
        if (wrong !== undefined) violations.push(wrong)
      }
      answers += questions.length
      asked.delete(reader)
      truth.forgetBefore(Math.min(clockNs(), ...asked.values()))
    }
  }
  try {
    await Promise.all(readers.map(one))
  } finally {
    for (const reader of readers) reader.stop()
  }
  return { answers, violations }
}

/** Nobody changes anything any more: waits until everything is seen as it is. */
export async function readTheNewest({
  mount,
  truth,
  writer,
}: Pick<Options, 'mount' | 'truth' | 'writer'>): Promise<void> {
  const reader = new Reader(mount)
  try {
    await eventually('the newest of everything', async () => {
      const questions = writer.paths.map((path) => ({ ask: 'read', path }) as const)
      const answers = await reader.ask(questions)
      return questions.every(({ path }, index) => {
        const seen = answers[index]
        return seen !== undefined && truth.isNewest(path, seen)
      })
    })
  } finally {
    reader.stop()
  }
}

function judge(truth: Truth, reader: Reader, question: Question, seen: Seen): string | undefined {
  const wrong = truth.judge(
    question,
    seen,
    question.ask === 'readHeld' ? reader.held.get(question.slot) : undefined,
  )
  if (question.ask === 'hold') {
    const file = truth.fileOf(question.path, seen)
    if (file) reader.held.set(question.slot, file)
    else reader.held.delete(question.slot)
  }
  return wrong
}

function draw(random: Random, writer: PastWriter, reader: Reader): Question {
  const drawn = random.below(100)
  const path = writer.drawPath(random)
  if (drawn < 62) return { ask: 'read', path }
  if (drawn < 66) return { ask: 'hold', path, slot: random.below(SLOTS) }
  if (drawn < 76)
    return reader.held.size > 0 ? { ask: 'readHeld', slot: random.below(SLOTS) } : { ask: 'read', path }
  if (drawn < 88) return { ask: 'stat', path }
  if (drawn < 93) return { ask: 'xattr', path }
  if (drawn < 96) return { ask: 'flags', path }
  return { ask: 'list', path: path.slice(0, path.indexOf('/')) }
}
