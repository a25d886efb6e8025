#!/bin/sh
# Lists the pjdfstest cases that do not pass in run B but did in run A.
#
#   pjdfstest-compare.sh OUTDIR_A OUTDIR_B
#
# Both are output directories of pjdfstest.sh; A is the plain directory, B the mount. A case that fails in both is
# none of the mount's doing and is only counted. Ends with 0 if the list is empty, 1 if not, 2 on bad input.
set -u

if [ $# -ne 2 ] || [ ! -s "$1/cases.txt" ] || [ ! -s "$2/cases.txt" ]; then
  echo "usage: pjdfstest-compare.sh OUTDIR_A OUTDIR_B (each with a cases.txt that pjdfstest.sh wrote)" >&2
  exit 2
fi

awk '
  # A todo is a failure that the suite expects on this system, so it is none; neither is a skip.
  function file(name) { sub(/:[0-9]+$/, "", name); return name }
  function bad(result) { return result == "failed" || result == "missing" }
  FNR == NR { before[$1] = $2; next }
  {
    after[$1] = 1
    ran[file($1)] = 1
    if (!bad($2)) { if (bad(before[$1])) better++; next }
    if (bad(before[$1])) { both++; next }
    print
    worse++
  }
  END {
    # A case that A reported and B never reached is a failure too, unless B was not asked to run its file.
    for (name in before) {
      if (name in after || bad(before[name])) continue
      if (!(file(name) in ran)) { unasked++; continue }
      print name " missing not reported in B"
      worse++
    }
    if (unasked > 0) printf "%d cases are in files that B did not run\n", unasked
    printf "%d fail only in B, %d fail in both, %d fail only in A\n", worse, both, better
    exit worse > 0 ? 1 : 0
  }
' "$1/cases.txt" "$2/cases.txt"
