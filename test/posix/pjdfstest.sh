#!/bin/sh
# Runs an installed pjdfstest in a directory and counts what passed.
#
#   PJDFSTEST=/path/to/pjdfstest pjdfstest.sh DIRECTORY [OUTDIR]
#
# PJDFSTEST is a built checkout: the program `pjdfstest` and the folder `tests`. PJDFSTEST_TESTS limits the run to
# folders or files below `tests` ("rename chmod/00.t"), PJDFSTEST_JOBS sets how many run at once (default 2).
# OUTDIR (default: a new directory under TMPDIR) receives tap/ (what each test printed) and cases.txt, one
# "file:number ok|failed|todo|skipped|missing text" a line, which pjdfstest-compare.sh reads.
# Ends with 0 if nothing failed, 1 if a case did, 2 if it could not be run.
set -u

if [ "${1-}" = --one ]; then
  # Called by prove for one test file: pass its output on and keep a copy.
  name=$(printf '%s' "${2#"$PJDFSTEST"/tests/}" | tr / %)
  sh "$2" 2>&1 | tee "$PJDFSTEST_OUT/tap/$name"
  exit 0
fi

fail() {
  echo "pjdfstest.sh: $*" >&2
  exit 2
}

[ $# -ge 1 ] || fail "usage: PJDFSTEST=/path/to/pjdfstest pjdfstest.sh DIRECTORY [OUTDIR]"
[ -d "$1" ] || fail "$1 is no directory"
[ -n "${PJDFSTEST-}" ] || fail "set PJDFSTEST to a built checkout of pjdfstest"
[ -x "$PJDFSTEST/pjdfstest" ] || fail "$PJDFSTEST/pjdfstest is missing: build it first (autoreconf -ifs && ./configure && make)"
[ "$(id -u)" = 0 ] || fail "pjdfstest changes users: run it as root"
command -v prove >/dev/null || fail "prove is missing: install perl"

self=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/$(basename -- "$0")
if [ $# -ge 2 ]; then
  mkdir -p "$2" || fail "cannot make $2"
  PJDFSTEST_OUT=$(CDPATH='' cd -- "$2" && pwd)
else
  PJDFSTEST_OUT=$(mktemp -d "${TMPDIR:-/tmp}/pjdfstest-out.XXXXXX") || fail "cannot make an output directory"
fi
export PJDFSTEST PJDFSTEST_OUT
mkdir -p "$PJDFSTEST_OUT/tap" || fail "cannot make $PJDFSTEST_OUT/tap"
rm -f "$PJDFSTEST_OUT"/tap/* "$PJDFSTEST_OUT/cases.txt"

directory=$(CDPATH= cd -- "$1" && pwd) || fail "cannot enter $1"
work=$(mktemp -d "$directory/pjdfstest.XXXXXX") || fail "cannot make a directory in $directory"
chmod 755 "$work"
# The tests leave immutable flags behind only when they are interrupted; rm says so then.
trap 'cd / && rm -rf "$work"' EXIT
trap 'exit 2' INT TERM

targets=
for test in ${PJDFSTEST_TESTS:-.}; do
  targets="$targets $PJDFSTEST/tests/${test#./}"
done
[ -n "${PJDFSTEST_TESTS-}" ] || targets=$PJDFSTEST/tests

# shellcheck disable=SC2086 # a list of paths
(cd "$work" && prove -Q -r -j "${PJDFSTEST_JOBS:-2}" --exec "sh $self --one" $targets) >"$PJDFSTEST_OUT/prove.txt" 2>&1

for tap in "$PJDFSTEST_OUT"/tap/*; do
  [ -f "$tap" ] || continue
  awk -v file="$(basename "$tap" | tr % /)" '
    /^1\.\.[0-9]+/ { split($1, plan, "[.][.]"); planned = plan[2]; next }
    /^(not )?ok( |$)/ {
      line = $0
      passed = line !~ /^not /
      sub(/^(not )?ok */, "", line)
      number = line
      if (line ~ /^[0-9]+/) { sub(/[^0-9].*/, "", number); sub(/^[0-9]+ */, "", line) } else number = last + 1
      last = number
      result = passed ? "ok" : "failed"
      if (line ~ /# *[Tt][Oo][Dd][Oo]/) result = "todo"
      if (line ~ /# *[Ss][Kk][Ii][Pp]/) result = "skipped"
      seen[number] = 1
      printf "%s:%d %s %s\n", file, number, result, line
    }
    END {
      if (planned == "") printf "%s:0 missing it printed no plan\n", file
      for (n = 1; n <= planned; n++) if (!(n in seen)) printf "%s:%d missing planned, never reported\n", file, n
    }
  ' "$tap"
done | sort -V >"$PJDFSTEST_OUT/cases.txt"

awk '
  { count[$2]++ }
  END {
    printf "pjdfstest: %d cases, %d ok, %d failed, %d missing, %d todo, %d skipped\n", NR, count["ok"], \
      count["failed"], count["missing"], count["todo"], count["skipped"]
    exit NR == 0 ? 2 : (count["failed"] + count["missing"] > 0 ? 1 : 0)
  }
' "$PJDFSTEST_OUT/cases.txt"
status=$?
[ $status -eq 0 ] || awk '$2 == "failed" || $2 == "missing" { print "  " $0 }' "$PJDFSTEST_OUT/cases.txt" | head -n 200
[ $status -ne 2 ] || cat "$PJDFSTEST_OUT/prove.txt" >&2
echo "details: $PJDFSTEST_OUT"
exit $status
