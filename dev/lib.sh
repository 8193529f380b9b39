# Shared by the scripts of this folder: what Berth needs from Debian, and how it is built.
# POSIX shell. Sourced with $ROOT set to the top of the tree.

BUILD_PACKAGES="gcc libc6-dev meson ninja-build pkg-config python3 protobuf-compiler
protobuf-c-compiler libprotobuf-c-dev libssl-dev libmicrohttpd-dev libgnutls28-dev libnng-dev
libyaml-dev libcjson-dev libcurl4-openssl-dev libsqlite3-dev libusb-1.0-0-dev libcmocka-dev"
DEMO_PACKAGES="curl ca-certificates openssl"
DONGLE_PACKAGES="umockdev libumockdev-dev"
TEST_PACKAGES="git systemd python3-prometheus-client python3-pytest python3-pytest-xdist python3-cryptography python3-requests python3-yaml
openssl curl ca-certificates procps binutils faketime prometheus mandoc umockdev libumockdev-dev spin
strace nbdkit nbdkit-plugin-python libnbd-bin e2fsprogs mount
chromium chromium-driver python3-selenium python3-pip fonts-dejavu-core"
TEST_PACKAGES="$TEST_PACKAGES qemu-system-x86 busybox-static"
TEST_PACKAGES="$TEST_PACKAGES docker-compose debootstrap iptables iproute2 debhelper dpkg-dev lintian util-linux"
TEST_PACKAGES="$TEST_PACKAGES podman netavark catatonit"
# Debian's own engine, unless there is another one, with which it would clash.
[ -x /usr/bin/dockerd ] || TEST_PACKAGES="$TEST_PACKAGES docker.io"
# Debian's own kubectl, unless there is another one, with which it would clash.
command -v kubectl >/dev/null 2>&1 || TEST_PACKAGES="$TEST_PACKAGES kubernetes-client"

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        die "installing packages needs root: run this as root, or install sudo"
    fi
}

# install_packages NAME…: installs those that are missing; does nothing when all are there.
install_packages() {
    missing=
    for p in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed ||
            missing="$missing $p"
    done
    [ -n "$missing" ] || return 0
    installed=yes
    say "installing:$missing"
    # shellcheck disable=SC2086
    (apt_install $missing) || die "apt-get could not install:$missing"
}

# In a subshell: it leaves nothing behind, interrupted or not.
apt_install() {
    # prometheus is wanted for promtool alone: nothing of what is installed may start a service.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'as_root rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null &&
            as_root chmod 755 "$policy" || return
    fi
    # Debian's own timers, or another of these scripts, may be installing at this moment.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update >/dev/null &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
            -o DPkg::Lock::Timeout=600 "$@" >/dev/null
}

# build DIR [meson option…]
build() {
    dir=$1
    shift
    if [ ! -f "$dir/build.ninja" ]; then
        set -- setup "$@"
    elif [ -n "${installed:-}" ]; then # a folder of before does not know what is there now
        set -- setup --reconfigure "$@"
    else
        set --
    fi
    if [ $# -gt 0 ]; then
        meson "$@" "$dir" "$ROOT" >"$dir.log" 2>&1 || { tail -30 "$dir.log" >&2; die "meson setup failed"; }
    fi
    ninja -C "$dir" >"$dir.log" 2>&1 || { grep -E -A5 'error|FAILED' "$dir.log" | head -60 >&2; die "build failed, see $dir.log"; }
}
