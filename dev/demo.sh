#!/bin/sh
# The main job, from nothing: installs what is missing, builds, makes demo keys and licenses, starts
# the vendor's validation backend and the license server, shows a client taking, revalidating and
# returning a session by plain curl, and leaves the server running until Ctrl-C.
#
#   dev/demo.sh           as above
#   dev/demo.sh --once    ends after the client has been shown
#   dev/demo.sh --dongle  On-Premises: instead of the backend an emulated USB dongle, which is pulled
#                         out and plugged in again
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
. "$ROOT/dev/lib.sh"
ONCE=
DONGLE=
for word in "$@"; do
    case $word in
    --once) ONCE=1 ;;
    --dongle) DONGLE=1 ;;
    *) die "usage: dev/demo.sh [--once] [--dongle]" ;;
    esac
done

# shellcheck disable=SC2086
install_packages $BUILD_PACKAGES $DEMO_PACKAGES
BIN=${BERTH_BUILD:-$ROOT/build}
DEMO=${BERTH_DEMO:-$ROOT/demo}
say "building …"
build "$BIN"

PORT=${BERTH_DEMO_PORT:-22022}
ADMIN_PORT=${BERTH_DEMO_ADMIN_PORT:-22023}
CLOUD_PORT=${BERTH_DEMO_CLOUD_PORT:-22030}

mkdir -p "$DEMO/license"
chmod 700 "$DEMO"
"$ROOT/deploy/demo/keys.sh" "$BIN" "$DEMO/keys" "$DEMO" \
    "https://localhost:$CLOUD_PORT" "https://localhost:$PORT"
LICENSED_BY="server_license: server-license"
[ -z "$DONGLE" ] || LICENSED_BY="dongle: {}"
cat >"$DEMO/config.yaml" <<EOF
serve:
  licenses: {host: 127.0.0.1, port: $PORT, tls: {certificate: tls.pem, key: tls.key}}
  admin: {host: 127.0.0.1, port: $ADMIN_PORT, token_file: admin.token}
licenses: {search_paths: [license]}
sessions: {revalidation_interval: 120 s, state_dir: state}
trust: {vendor_ca: vendor-ca.pem, state_dir: state, $LICENSED_BY}
borrow: {directory: state, token_file: borrow.token}
EOF
mkdir -p "$DEMO/state"

CLOUD_PID=
DONGLE_PID=
SERVER_PID=
stop() {
    trap - EXIT INT TERM
    [ -z "$SERVER_PID" ] || kill "$SERVER_PID" 2>/dev/null || :
    [ -z "$SERVER_PID" ] || wait "$SERVER_PID" 2>/dev/null || :
    [ -z "$CLOUD_PID" ] || kill "$CLOUD_PID" 2>/dev/null || :
    [ -z "$CLOUD_PID" ] || wait "$CLOUD_PID" 2>/dev/null || :
    exec 3>&- # the emulated token ends with its input
    [ -z "$DONGLE_PID" ] || wait "$DONGLE_PID" 2>/dev/null || :
}
trap 'stop' EXIT
trap 'stop; exit 0' INT TERM

# wait_for SECONDS PID COMMAND…: until COMMAND succeeds; the process must live meanwhile.
wait_for() {
    end=$(($(date +%s) + $1))
    pid=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        kill -0 "$pid" 2>/dev/null || { tail -n 5 "$DEMO"/*.log >&2; die "a process ended; its log is above"; }
        [ "$(date +%s)" -lt "$end" ] || { tail -n 5 "$DEMO"/*.log >&2; die "not ready in time; the logs are above"; }
        sleep 0.1
    done
}

serve() { exec "$BIN/berth" serve all -c "$DEMO/config.yaml"; }
if [ -n "$DONGLE" ]; then
    . "$ROOT/dev/demo_dongle.sh"
else
    "$BIN/berth-cloud" serve --dir "$DEMO/keys/cloud" --listen "127.0.0.1:$CLOUD_PORT" \
        --state "$DEMO/cloud.db" >"$DEMO/cloud.log" 2>&1 &
    CLOUD_PID=$!
    backend() { curl -sf --cacert "$DEMO/keys/vendor-ca.pem" "https://localhost:$CLOUD_PORT/health/alive"; }
    wait_for 20 "$CLOUD_PID" backend
fi
serve >"$DEMO/server.log" 2>&1 &
SERVER_PID=$!
ready() { grep -q 'server\.ready' "$DEMO/server.log"; }
wait_for 30 "$SERVER_PID" ready

"$ROOT/deploy/demo/client.sh" "https://localhost:$PORT" "$DEMO/tls.pem"
"$BIN/berth" status -c "$DEMO/config.yaml" || :
[ -z "$DONGLE" ] || show_dongle
say
say "A session was served."
[ -z "$ONCE" ] || exit 0
say "The server is running at https://localhost:$PORT (log: demo/server.log). Ctrl-C ends it."
wait "$SERVER_PID"
