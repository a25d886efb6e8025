import { posixSuiteOn } from '../../support/posix/mounted-suite.ts'

posixSuiteOn('a mount in drain', (ferry) => ferry.mount('--mode', 'drain'))
