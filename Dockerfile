# Berth's images: a target for each service, and one for the tools.
#
#   docker build --target pool -t berth/pool .        … gateway, pool, trust, borrow, tools
#
# The final images hold a binary and the libraries that it loads: no shell, no package manager.
# Where no registry is reached, deploy/base-image.sh makes the base image. docs/containers.md says
# more. Plain builder and BuildKit both work.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS build
# As a first layer of its own: it changes only with the list of packages.
COPY dev/lib.sh /src/dev/lib.sh
RUN . /src/dev/lib.sh && install_packages $BUILD_PACKAGES $DEMO_PACKAGES && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
COPY . /src
# VENDOR_CA: path, in the build context, of the vendor's CA certificate to compile in. It is
# public; without it the key trust.vendor_ca names the file.
ARG VENDOR_CA=
# Time of all files in the images, in seconds since 1970.
ARG SOURCE_DATE_EPOCH=1764000000
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH}
WORKDIR /src
RUN meson setup --prefix=/usr -Doptimization=2 -Ddebug=false -Dtests=false \
        ${VENDOR_CA:+-Dvendor_ca=/src/$VENDOR_CA} /build && \
    ninja -C /build && \
    DESTDIR=/installed meson install -C /build --no-rebuild --strip && \
    for service in gateway pool trust borrow; do \
        deploy/docker/image-root.sh /installed /image/$service berth-$service || exit 1; \
    done && \
    deploy/docker/image-root.sh /installed /image/tools berth berth-vendor berth-cloud && \
    mkdir -p /owned/state && chmod 700 /owned/state && \
    touch -d "@$SOURCE_DATE_EPOCH" /owned/state
# For the demo, whose containers make their keys in volumes: those get the folders' owner.
RUN install -d -m 700 -o 22022 -g 22022 /vendor /etc/berth

FROM scratch AS gateway
COPY --from=build /image/gateway /
COPY --from=build --chown=22022:22022 /owned /
USER 22022:22022
WORKDIR /state
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s \
    CMD ["/usr/bin/berth-gateway", "-c", "/etc/berth/config.yaml", "health", "alive"]
ENTRYPOINT ["/usr/bin/berth-gateway", "-c", "/etc/berth/config.yaml"]

FROM scratch AS pool
COPY --from=build /image/pool /
COPY --from=build --chown=22022:22022 /owned /
USER 22022:22022
WORKDIR /state
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s \
    CMD ["/usr/bin/berth-pool", "-c", "/etc/berth/config.yaml", "health", "alive"]
ENTRYPOINT ["/usr/bin/berth-pool", "-c", "/etc/berth/config.yaml"]

FROM scratch AS trust
COPY --from=build /image/trust /
COPY --from=build --chown=22022:22022 /owned /
USER 22022:22022
WORKDIR /state
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s \
    CMD ["/usr/bin/berth-trust", "-c", "/etc/berth/config.yaml", "health", "alive"]
ENTRYPOINT ["/usr/bin/berth-trust", "-c", "/etc/berth/config.yaml"]

FROM scratch AS borrow
COPY --from=build /image/borrow /
COPY --from=build --chown=22022:22022 /owned /
USER 22022:22022
WORKDIR /state
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s \
    CMD ["/usr/bin/berth-borrow", "-c", "/etc/berth/config.yaml", "health", "alive"]
ENTRYPOINT ["/usr/bin/berth-borrow", "-c", "/etc/berth/config.yaml"]

FROM scratch AS tools
COPY --from=build /image/tools /
COPY --from=build --chown=22022:22022 /owned /
USER 22022:22022
WORKDIR /state
