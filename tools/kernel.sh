#!/bin/sh
# Unpack Debian's kernel for virtual machines to DIRECTORY, without installing it (its maintainer
# scripts would make an initramfs and a boot entry for this host). Nothing when it is there.
# Usage: kernel.sh DIRECTORY
set -eu

directory=$1
[ ! -d "$directory/boot" ] || exit 0
command -v apt-get >/dev/null || { echo "note: no apt-get, hence no kernel for qemu" >&2; exit 0; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

fetch() {
    package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    [ -n "$package" ] && (cd "$work" && apt-get download -q "$package") >"$work/log" 2>&1
}
# The lists may be old or absent: try with them, then with new ones.
if ! fetch; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    if ! { $sudo apt-get update -q >/dev/null 2>&1 && fetch; }; then
        echo "note: linux-image-cloud-amd64 cannot be had; qemu will be named as absent" >&2
        exit 0
    fi
fi
mkdir -p "$(dirname "$directory")"
dpkg-deb -x "$work"/linux-image-*.deb "$work/unpacked"
rm -rf "$directory"
mv "$work/unpacked" "$directory"
