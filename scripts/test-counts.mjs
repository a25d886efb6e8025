// Prints "passed failed skipped" out of the JSON report of a test run; with --failures, what failed and why, so that the
// end of a long log still says it.
import { readFileSync } from 'node:fs'
import { relative } from 'node:path'

const [path, option] = process.argv.slice(2)
const report = JSON.parse(readFileSync(path, 'utf8'))
const failedSuites = report.testResults.filter(
  (suite) => suite.status === 'failed' && suite.assertionResults.every((test) => test.status !== 'failed'),
)

const LINES = 25
const told = (where, message) => {
  console.log(`FAILED ${where}`)
  for (const line of (message ?? 'no message').split('\n').slice(0, LINES)) console.log(`  ${line}`)
}

if (option === '--failures') {
  for (const suite of report.testResults) {
    const file = relative(process.cwd(), suite.name)
    if (failedSuites.includes(suite)) told(file, suite.message)
    for (const test of suite.assertionResults) {
      if (test.status === 'failed') told(`${file} > ${test.fullName}`, test.failureMessages.join('\n'))
    }
  }
} else {
  console.log(
    report.numPassedTests,
    report.numFailedTests + failedSuites.length,
    report.numPendingTests + report.numTodoTests,
  )
}
