#!/usr/bin/env bash
# Type-checks the library for Windows and macOS, with and without default features.
#
# A stable toolchain from a distribution has no standard library for them, so Debian's rustc-web is
# used: it comes with the source of its standard library, which cargo builds (`-Z build-std`). The
# packages are unpacked into target/cross and never installed (they conflict with other compilers).
# Needs Debian bookworm or newer with its security suite, and network access.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
targets=(x86_64-pc-windows-gnu aarch64-apple-darwin)
home=$PWD/target/cross
web=$home/web

fetch() {
    local debs=$home/debs std
    for tool in apt-get dpkg apt-cache; do
        command -v $tool >/dev/null || { echo "no \`$tool\`: this needs a Debian system" >&2; exit 1; }
    done
    [ "$(id -u)" -ne 0 ] || apt-get update -qq
    # The newest release of the standard library that the suites offer.
    std=$(apt-cache search --names-only '^libstd-rust-web-[0-9.]+$' | cut -d' ' -f1 | sort -V | tail -1)
    if [ -z "$std" ]; then
        echo "apt knows no libstd-rust-web: run apt-get update; Debian's security suite must be on" >&2
        exit 1
    fi
    local llvm
    llvm=$(apt-cache depends rustc-web "$std" | sed -n 's/.*Depends: \(libllvm[0-9.]*\).*/\1/p' | head -1)
    rm -rf "$debs" "$web"
    mkdir -p "$debs" "$web"
    (cd "$debs" && apt-get download rustc-web "$std" libstd-rust-web-dev rust-web-src \
        binutils-mingw-w64-x86-64 ${llvm:+"$llvm"})
    for deb in "$debs"/*.deb; do
        dpkg -x "$deb" "$web"
    done
    rm -rf "$debs"
    (cd "$web/usr/lib" && for so in x86_64-linux-gnu/*.so*; do ln -sf "$so" .; done)
    touch "$web/complete"
}

[ -e "$web/complete" ] || fetch
export RUSTC=$web/usr/bin/rustc
export LD_LIBRARY_PATH=$web/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export PATH=$PATH:$web/usr/bin # the dlltool that Windows' raw-dylib links need
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$home/build
unset RUSTFLAGS
"$RUSTC" --version
failed=0
for target in "${targets[@]}"; do
    for features in "" "--no-default-features"; do
        echo "== $target $features"
        # shellcheck disable=SC2086 -- no flag is no word
        cargo check --lib -Zbuild-std=std,panic_unwind --target "$target" $features || failed=$((failed + 1))
    done
done
passed=$((2 * ${#targets[@]} - failed))
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
