#!/bin/sh
# redis in a detached container: pulled when a registry answers, assembled from the distribution's
# own packages when none does.
set -eu

fastbox=${FASTBOX:-.venv/bin/fastbox}
[ "$(id -u)" = 0 ] || fastbox="sudo $fastbox"
name=fastbox-demo

say() { printf '\n$ fastbox %s\n' "$*"; $fastbox "$@"; }

$fastbox rm -f -v "$name" >/dev/null 2>&1 || true
if ! $fastbox inspect --type image redis >/dev/null 2>&1; then
    if ! say pull redis; then
        echo "no registry answers; assembling redis from this system's packages"
        say bootstrap --include redis-server -t redis \
            -c 'CMD ["redis-server", "--protected-mode", "no"]'
    fi
fi
say run -d --name "$name" redis
answer=
for _ in 1 2 3 4 5 6 7 8 9 10; do
    answer=$($fastbox exec "$name" redis-cli ping 2>/dev/null) && break
    sleep 0.2
done
say ps
say exec "$name" redis-cli ping
[ "$answer" = PONG ]
say logs --tail 3 "$name"
printf '\nstop it with: fastbox rm -f %s\n' "$name"
