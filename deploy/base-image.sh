#!/bin/sh
# Makes the base image of the Dockerfile by debootstrap, for hosts that reach a Debian archive, or a
# mirror of it, but no image registry. As root, on Debian.
#
#   deploy/base-image.sh [IMAGE]       default: debian:bookworm-slim
#
# Archive, suites and apt's settings for proxies and validity are those of this host, so that what
# works here works in the image. DOCKER_HOST and PATH decide which engine gets it.
set -eu
image=${1:-debian:bookworm-slim}
suite=bookworm
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# The day of the release, unless the caller wants another.
epoch=${SOURCE_DATE_EPOCH:-1686355200}

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || die "debootstrap needs root"
command -v debootstrap >/dev/null || die "debootstrap is missing: apt-get install debootstrap"
[ -f "$keyring" ] || die "$keyring is missing: apt-get install debian-archive-keyring"

# "URI suite component" of each of Debian's own package lists that this host uses.
lists() {
    # Not expanded by the shell: they are apt's fields.
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)' \
        'Created-By: Packages' | awk -v suite="$suite" \
        '$4 == "Debian" && $3 == "main" && ($2 == suite || $2 == suite "-updates" ||
         $2 == suite "-security") { print $1, $2, $3 }' | sort -u
}

# Proxies and what this host says about the validity of lists; nothing else of its configuration.
settings() {
    apt-config dump | grep -E \
        '^Acquire::((https?::.*)?Proxy|Check-Valid-Until|Check-Date|Retries)[^"]*"[^"]+";$' || :
}

found=$(lists)
mirror=$(printf '%s\n' "$found" | awk -v suite="$suite" '$2 == suite { print $1; exit }')
[ -n "$mirror" ] ||
    die "this host's apt knows no Debian $suite archive: apt-get update, or see sources.list"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
trap 'exit 1' INT TERM
http_proxy=${http_proxy:-$(apt-config dump | sed -n 's/^Acquire::http::Proxy "\(.*\)";/\1/p')}
export http_proxy
case $mirror in https:*) include=--include=ca-certificates ;; *) include= ;; esac
# shellcheck disable=SC2086
debootstrap --variant=minbase --keyring="$keyring" $include "$suite" "$root" "$mirror" \
    >"$root.log" 2>&1 || { tail -20 "$root.log" >&2; rm -f "$root.log"; die "debootstrap failed"; }
rm -f "$root.log"

printf '%s\n' "$found" | sed "s|^|deb [signed-by=$keyring] |" >"$root/etc/apt/sources.list"
settings >"$root/etc/apt/apt.conf.d/01host"
# As Debian's own image: documents are not unpacked, and caches of this run are not kept.
cat >"$root/etc/dpkg/dpkg.cfg.d/slim" <<'EOF'
path-exclude /usr/share/doc/*
path-exclude /usr/share/man/*
path-exclude /usr/share/locale/*
path-include /usr/share/doc/*/copyright
EOF
printf 'APT::Install-Recommends "false";\n' >"$root/etc/apt/apt.conf.d/02slim"
find "$root/usr/share/doc" -type f ! -name copyright -delete
find "$root/usr/share/doc" -type d -empty -delete
rm -rf "$root"/usr/share/man/* "$root"/usr/share/locale/* "$root"/var/cache/apt/* \
    "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/var/cache/ldconfig/* \
    "$root"/etc/resolv.conf "$root"/etc/hostname "$root"/etc/machine-id
: >"$root/etc/machine-id"
find "$root" -newermt "@$epoch" -exec touch -h -d "@$epoch" {} +

tar -C "$root" --sort=name --numeric-owner --exclude='./dev/*' -c . |
    docker import --change 'CMD ["/bin/sh"]' - "$image"
