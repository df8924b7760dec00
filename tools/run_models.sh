#!/usr/bin/env bash
# Checks the SPIN models in docs/models. `docs/models/runs.txt` says what is to be run:
#   model  flags(-)  errors     e.g.   wake - 0      wake -DSWAP 1
# 0 means the model must hold; 1 that the broken variant must be caught, or the model proves nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=docs/models/runs.txt
if ! command -v spin >/dev/null; then
    echo "no \`spin\` on PATH: install it (Debian: apt install spin)" >&2
    exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
while read -r model flags expected _; do
    case "$model" in '' | '#'*) continue ;; esac
    [ "$flags" = - ] && flags=
    cp "docs/models/$model.pml" "$work/"
    # shellcheck disable=SC2086 -- several flags are several words
    (cd "$work" && spin -a $flags "$model.pml" >/dev/null && gcc -O2 -DSAFETY -w -o pan pan.c)
    found=$(cd "$work" && ./pan -m1000000 | sed -n 's/.*errors: \([0-9]*\).*/\1/p')
    if [ "$found" = "$expected" ]; then
        passed=$((passed + 1)) word=ok
    else
        failed=$((failed + 1)) word=FAILED
    fi
    printf '%-8s %-12s errors %s, expected %s  %s\n' "$model" "${flags:--}" "$found" "$expected" "$word"
done <"$runs"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
