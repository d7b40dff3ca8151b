#!/bin/sh
# Install the named Debian packages that are missing, in one go; nothing (and fast) when all are
# there. Services that come with a package are neither started nor left enabled.
set -eu

missing=
for package; do
    case $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true) in
        installed) ;;
        *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "error: needs these Debian packages or their like:$missing" >&2
    exit 1
fi
sudo=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "error: as root: apt-get install$missing" >&2; exit 1; }
    sudo=sudo
fi

echo "installing:$missing"
policy=/usr/sbin/policy-rc.d
ours=
if [ ! -e "$policy" ]; then
    # 101: "action forbidden by policy"; invoke-rc.d and deb-systemd-invoke ask this script.
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod 755 "$policy"
    ours=yes
fi
log=$(mktemp)
cleanup() {
    [ -z "$ours" ] || $sudo rm -f "$policy"
    rm -f "$log"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

install() {
    # shellcheck disable=SC2086  # a list of package names
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
}
# The lists may be old or absent: try with them, then with new ones.
if ! install >"$log" 2>&1; then
    { $sudo apt-get update -q && install; } >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
fi
for package in $missing; do
    case $package in
        docker-registry) service=docker-registry ;;
        redis-server) service=redis-server ;;
        docker.io) service="docker.service docker.socket containerd.service" ;;
        *) continue ;;
    esac
    # shellcheck disable=SC2086  # a list of units
    if [ -d /run/systemd/system ]; then $sudo systemctl disable --quiet $service || true; fi
done
