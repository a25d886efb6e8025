// Prints "passed failed skipped" out of the JSON report of a test run.
import { readFileSync } from 'node:fs'

const report = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const failedSuites = report.testResults.filter(
  (suite) => suite.status === 'failed' && suite.assertionResults.every((test) => test.status !== 'failed'),
)
console.log(
  report.numPassedTests,
  report.numFailedTests + failedSuites.length,
  report.numPendingTests + report.numTodoTests,
)
