import { expect, test } from 'vitest'
import { Gate } from './gate.ts'

// A turn that had waited for the open gate, and went on when it was closed already, met a mount that went, and counted as one
// that had begun on the next: its ECONNABORTED was taken for a violation.
test('a turn begins before the gate is closed or after it is open again', async () => {
  const gate = new Gate()
  const begun: string[] = []
  const turn = (name: string): Promise<number> => gate.pass(() => begun.push(`${name} at ${gate.changes}`))
  const first = turn('first')
  gate.close()
  const second = turn('second')
  await Promise.resolve()
  gate.open()
  gate.close()
  await Promise.resolve()
  expect(begun).toEqual(['first at 0'])
  gate.open()
  await Promise.all([first, second])
  expect(begun).toEqual(['first at 0', 'second at 4'])
})
