import { posixSuiteOn } from '../../support/posix/mounted-suite.ts'

posixSuiteOn('a mount in mirror', (ferry) => ferry.mount('--mode', 'mirror'))
