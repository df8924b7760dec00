#!/usr/bin/env bash
# Checks the SPIN models by the list docs/models/runs.txt; arguments choose models by name.
# Non-zero when an expectation fails. Needs spin and a C compiler; installs nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for tool in spin:spin cc:gcc; do
    if ! command -v "${tool%%:*}" >/dev/null; then
        echo "models: no \`${tool%%:*}\` here: apt-get install ${tool##*:}" >&2
        exit 1
    fi
done
models=$PWD/docs/models
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
printf '%-6s %-16s %8s %8s %12s %7s\n' model flags errors expected states result
while read -r model flags expected seconds; do
    case "$model" in '' | '#'*) continue ;; esac
    if [ $# -gt 0 ] && [[ " $* " != *" $model "* ]]; then continue; fi
    [ "$flags" = - ] && options=() || IFS=, read -ra options <<<"$flags"
    rm -f "$work"/*
    cd "$work"
    cp "$models/$model.pml" .
    spin -a "${options[@]}" "$model.pml" >spin.out || { cat spin.out >&2; exit 1; }
    if [ -n "$seconds" ]; then
        # The signal makes it print what it has seen; not finding an error in the time is the claim.
        cc -O2 -DSAFETY -DBITSTATE -w -o pan pan.c
        timeout -s INT "$seconds" ./pan -m1000000 -w30 >pan.out 2>&1 || true
    else
        cc -O2 -DSAFETY -DCOLLAPSE -w -o pan pan.c
        ./pan -m1000000 >pan.out 2>&1 || true
    fi
    cd "$OLDPWD"
    errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' "$work/pan.out")
    states=$(sed -n 's/ *\([0-9.e+]*\) states, stored.*/\1/p' "$work/pan.out")
    # A search that ran out of depth or memory proves nothing.
    if [ "$errors" = "$expected" ] && ! grep -qE 'max search depth too small|out of memory' "$work/pan.out"; then
        passed=$((passed + 1)) result=ok
    else
        failed=$((failed + 1)) result=FAILED
    fi
    printf '%-6s %-16s %8s %8s %12s %7s\n' "$model" "$flags" "${errors:-?}" "$expected" "${states:-?}" "$result"
done <docs/models/runs.txt
echo "$passed as expected, $failed not"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
