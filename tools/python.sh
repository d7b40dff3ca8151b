#!/bin/sh
# Print the interpreters that can build fastbox: Python 3.10 or newer, with its headers.
#   python.sh          the first that fits: $PYTHON, python3, then the newest python3.N
#   python.sh --all    every version there is, oldest first, pyenv's included
set -eu

check='
import os, sys, sysconfig, venv
header = os.path.join(sysconfig.get_path("include"), "Python.h")
fits = sys.version_info >= (3, 10) and os.path.exists(header)
if fits:
    print("%d.%d" % sys.version_info[:2], sys.executable)
sys.exit(not fits)
'
try() { "$1" -c "$check" 2>/dev/null; }

if [ "${1:-}" = --all ]; then
    for n in 10 11 12 13 14; do
        for candidate in "python3.$n" "$HOME/.pyenv/versions/3.$n".*/bin/python3 /usr/bin/python3; do
            found=$(try "$candidate") || continue
            case $found in "3.$n "*) echo "${found#* }"; break ;; esac
        done
    done
    exit 0
fi
for candidate in ${PYTHON:-} python3 /usr/bin/python3 python3.13 python3.12 python3.11 python3.10; do
    if found=$(try "$candidate"); then
        echo "${found#* }"
        exit 0
    fi
done
echo "error: no Python 3.10 or newer with its headers (set PYTHON=…)" >&2
exit 1
