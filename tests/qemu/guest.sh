#!/bin/busybox sh
# What the guest does as its process 1. Each line that begins with @ is a fact for test_qemu.py.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo 1 >/proc/sys/kernel/printk
ifconfig lo 127.0.0.1 up
cd /berth || exit

say() { echo "@ $*"; }
ms() { awk '{ printf "%d", $1 * 1000 }' /proc/uptime; }
load() { for m in "$@"; do insmod "/modules/$m.ko" || say "failed: insmod $m"; done; }

# until SECONDS COMMAND…: tries it again and again; 1 if it never succeeds.
until_true() {
    end=$(($(ms) + $1 * 1000))
    shift
    until "$@"; do
        [ "$(ms)" -lt $end ] || return 1
        usleep 20000
    done
}
state_is() { wget -q -O - http://127.0.0.1:22025/metrics 2>/dev/null | grep -q "state=\"$1\"} 1"; }
reader_there() { grep -qx 0b /sys/bus/usb/devices/*/bInterfaceClass 2>/dev/null; }

# becomes FACT STATE: how many milliseconds it takes.
becomes() {
    began=$(ms)
    if until_true 20 state_is "$2"; then say "$1 $(($(ms) - began))"; else say "$1 never"; fi
}
start_refused() {
    ./berth-trust -c config.yaml >refused.log 2>&1
    say "$1 $? $(grep -o 'dongle-[a-z]*: [^.]*' refused.log | head -n 1)"
}
start() {
    ./berth-trust -c config.yaml >>trust.log 2>&1 &
    trust=$!
}
stop() {
    kill $trust
    wait $trust
    say "$1 $?"
}
attach() {
    hub=$(./usbip_attach 3240) || say "failed: attach"
    until_true 10 reader_there || say "failed: no device"
}

# ---- a token that comes over USB/IP ----
load usb-common usbcore usbip-core vhci-hcd
start_refused usbip-absent
mkfifo control
./token_usbip 3240 token.pem token.key plain <control >listening &
exec 3>control
until_true 5 grep -q listening listening
attach
start
becomes usbip-start valid
echo "$hub" >/sys/devices/platform/vhci_hcd.0/detach
becomes usbip-removed invalid
attach
becomes usbip-again valid
echo unplug >&3
becomes usbip-broken invalid
attach
becomes usbip-back valid
echo "fault silent" >&3
becomes usbip-silent invalid
echo "fault good" >&3
becomes usbip-good valid
say "usbip-reasons $(grep 'dongle.refused' trust.log | grep -o 'reason=[a-z-]*' | sort -u | tr '\n' ' ')"
stop usbip-end
echo "$hub" >/sys/devices/platform/vhci_hcd.0/detach

# ---- QEMU's own reader, with a card ----
load xhci-hcd xhci-pci
until_true 10 reader_there || say "failed: no reader"
start_refused reader-empty
say insert
started_or_ended() { state_is valid || ! [ -e /proc/$trust/exe ]; }
try() {
    start
    until_true 20 started_or_ended
    state_is valid
}
if until_true 20 try; then say "reader-start 0"; else say "reader-start never"; fi
say remove
becomes reader-removed invalid
say insert
becomes reader-again valid
stop reader-end
say done
poweroff -f
