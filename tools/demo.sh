#!/bin/sh
# redis in a detached container, for another container by its name and for the host by a port: pulled
# when a registry answers, assembled from the distribution's own packages when none does.
set -eu

fastbox=${FASTBOX:-.venv/bin/fastbox}
[ "$(id -u)" = 0 ] || fastbox="sudo $fastbox"
name=fastbox-demo
python=${PYTHON:-.venv/bin/python}

say() { printf '\n$ fastbox %s\n' "$*"; $fastbox "$@"; }

$fastbox rm -f -v "$name" >/dev/null 2>&1 || true
if ! $fastbox inspect --type image redis >/dev/null 2>&1; then
    if ! say pull redis; then
        echo "no registry answers; assembling redis from this system's packages"
        say bootstrap --include redis-server -t redis \
            -c 'CMD ["redis-server", "--protected-mode", "no"]'
    fi
fi
$fastbox network inspect "$name" >/dev/null 2>&1 || say network create "$name"
say run -d --name "$name" --network "$name" -p 127.0.0.1::6379 redis
answer=
for _ in 1 2 3 4 5 6 7 8 9 10; do
    answer=$($fastbox exec "$name" redis-cli ping 2>/dev/null) && break
    sleep 0.2
done
say ps
say exec "$name" redis-cli ping
[ "$answer" = PONG ]
say run --rm --network "$name" redis redis-cli -h "$name" ping
say port "$name"
port=$($fastbox port "$name" 6379 | sed 's/.*://')
printf '\n$ a client on the host, port %s\n' "$port"
$python -c "import socket
with socket.create_connection(('127.0.0.1', $port), timeout=5) as s:
    s.sendall(b'PING\r\n')
    print(s.recv(16).decode().strip())"
say logs --tail 3 "$name"
printf '\nstop it with: fastbox rm -f %s && fastbox network rm %s\n' "$name" "$name"
