#!/bin/sh
# Makes the root folder of an image FROM scratch:
#
#   deploy/docker/image-root.sh INSTALLED ROOT BINARY…
#
# ROOT gets /usr/bin/BINARY… of the folder INSTALLED and, at the paths where they were found, the
# shared libraries that these load, with the program loader; nothing else. All times are
# SOURCE_DATE_EPOCH, so that the same sources give the same layer.
set -eu
installed=$1
root=$2
shift 2
mkdir -p "$root/usr/bin"
for binary in "$@"; do
    cp "$installed/usr/bin/$binary" "$root/usr/bin/"
    missing=$(ldd "$root/usr/bin/$binary" | grep 'not found' || :)
    [ -z "$missing" ] || { printf '%s: %s\n' "$binary" "$missing" >&2; exit 1; }
    # "libx.so.1 => /lib/…/libx.so.1 (0x…)" and "/lib64/ld-linux-….so.2 (0x…)"
    ldd "$root/usr/bin/$binary" | sed -n 's|^[^/]*\(/[^ ]*\) (0x.*|\1|p' | while read -r library; do
        mkdir -p "$root${library%/*}"
        cp -L "$library" "$root$library"
        chmod 755 "$root$library"
    done
done
find "$root" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
