#!/bin/sh
# Makes what a demo needs and is not there yet: the vendor's keys, a server license, two license
# files and a TLS certificate.
#
#   deploy/demo/keys.sh BIN KEYS DIR CLOUD_URL SERVER_URL [NAME…]
#
# BIN: folder of the binaries. KEYS: the vendor's folder. DIR: the server's folder. The URLs are
# those of the vendor's backend and of the server; NAMEs are further host names of the two.
set -eu
bin=$1
keys=$2
dir=$3
cloud_url=$4
server_url=$5
shift 5
id=BERTH-DEMO-0001

cloud_names=
san=DNS:localhost,IP:127.0.0.1
for name in "$@"; do
    cloud_names="$cloud_names --cloud-name $name"
    san="$san,DNS:$name"
done

license() { # FILE MODULES COUNT
    [ -f "$dir/license/$1" ] ||
        "$bin/berth-vendor" license --dir "$keys" --server-id "$id" --feature MVTec_HALCON \
            --version 24.11 --edition Steady --modules "$2" --count "$3" \
            --server-url "$server_url" --out "$dir/license/$1"
}

mkdir -p "$dir/license"
# shellcheck disable=SC2086
[ -f "$keys/vendor-ca.pem" ] ||
    "$bin/berth-vendor" init --dir "$keys" --name "Example Vision GmbH" $cloud_names
[ -f "$dir/vendor-ca.pem" ] || cp "$keys/vendor-ca.pem" "$dir/vendor-ca.pem"
[ -f "$dir/server-license/server-license.pem" ] ||
    "$bin/berth-vendor" cloud-license --dir "$keys" --server-id "$id" --cloud-url "$cloud_url" \
        --addon borrow --out "$dir/server-license"
license license_halcon.dat fc12 5
license license_halcon_dl.dat fc12d 2
# The server's own TLS certificate. Here the demo makes a self-signed one; a site uses its own.
[ -f "$dir/tls.pem" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
    -nodes -days 365 -subj "/CN=localhost" -addext "subjectAltName=$san" \
    -keyout "$dir/tls.key" -out "$dir/tls.pem" 2>/dev/null
