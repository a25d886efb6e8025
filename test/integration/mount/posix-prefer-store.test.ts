import { posixSuiteOn } from '../../support/posix/mounted-suite.ts'

posixSuiteOn('a mount in prefer-store', (ferry) => ferry.mount('--mode', 'prefer-store'))
