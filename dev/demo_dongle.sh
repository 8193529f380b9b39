# Sourced by demo.sh --dongle: an emulated token (a PIV card in a CCID reader) as a USB device of
# umockdev. The server's libusb is the real one; only the kernel below it is emulated.

# shellcheck disable=SC2086
install_packages $DONGLE_PACKAGES
EMULATOR=$BIN/tests/component/token_umockdev
if [ ! -x "$EMULATOR" ]; then
    installed=yes # or before this folder was configured
    build "$BIN" -Dtests=true
fi

# What the vendor does: here the key is made beside the token, where a real one makes it inside.
[ -f "$DEMO/dongle.key" ] || openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 \
    -out "$DEMO/dongle.key" 2>/dev/null
if [ ! -f "$DEMO/dongle.pem" ]; then
    openssl pkey -in "$DEMO/dongle.key" -pubout -out "$DEMO/dongle.pub"
    "$BIN/berth-vendor" dongle-license --dir "$DEMO/keys" --server-id BERTH-DEMO-0001 \
        --csr "$DEMO/dongle.pub" --unattested --out "$DEMO/dongle.pem"
fi

rm -f "$DEMO/dongle.commands"
mkfifo "$DEMO/dongle.commands"
umockdev-wrapper "$EMULATOR" <"$DEMO/dongle.commands" >"$DEMO/dongle.log" &
DONGLE_PID=$!
exec 3>"$DEMO/dongle.commands"
plug() { say "1 plug $DEMO/dongle.pem $DEMO/dongle.key notifies" >&3; }
unplug() { say "1 unplug" >&3; }
plug
plugged() { grep -q bus/usb "$DEMO/dongle.log"; }
wait_for 10 "$DONGLE_PID" plugged

serve() { # the server, with the emulated USB below it
    UMOCKDEV_DIR=$(head -n 1 "$DEMO/dongle.log") LD_PRELOAD=libumockdev-preload.so.0 \
        exec "$BIN/berth" serve all -c "$DEMO/config.yaml" 3>&-
}

request() {
    curl -sS --cacert "$DEMO/tls.pem" -H 'Content-Type: application/json' \
        "https://localhost:$PORT/licenses" -d \
        '{"jsonrpc":"2.0","id":4,"method":"RequestSessionV1","params":
          {"feature":"MVTec_HALCON","version":"24.11","edition":"Steady","modules":"fc"}}'
}
refused() { request | grep -q dongle-absent; }
served() { request | grep -q '"result"'; }

show_dongle() {
    say
    say "The dongle is pulled out. Within two seconds:"
    say
    unplug
    wait_for 5 "$SERVER_PID" refused
    request
    say
    say
    say "… and is plugged in again:"
    say
    plug
    wait_for 5 "$SERVER_PID" served
    request
    say
}
