# The program, the libraries that it is linked with, CA certificates and an unprivileged user. There is no shell, and no
# PostgreSQL, so DATABASE_URL must be set. `docker build .` works on amd64 and arm64.

FROM rust:1-slim-trixie AS build
WORKDIR /src
# Records the dependencies in the program, for scanners such as `cargo audit bin` and Trivy.
RUN cargo install --quiet --locked --version 0.7.7 cargo-auditable
# Dependencies are built in a separate layer, which is cached until a manifest or Cargo.lock changes. Every target named
# in a manifest needs a file.
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
COPY crates/windlass-engine/Cargo.toml crates/windlass-engine/
COPY crates/windlass-types/Cargo.toml crates/windlass-types/
RUN mkdir -p src benches/bench crates/windlass-engine/src crates/windlass-types/src \
    && touch src/lib.rs crates/windlass-engine/src/lib.rs crates/windlass-types/src/lib.rs \
    && echo 'fn main() {}' >src/main.rs && cp src/main.rs benches/bench/main.rs \
    && cargo auditable build --release --locked
COPY . .
# Cargo compares modification times, and these files may be older than the empty ones above.
RUN touch src/lib.rs src/main.rs crates/*/src/lib.rs && cargo auditable build --release --locked

FROM debian:trixie-slim AS files
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# No version is pinned, so that the certificates are current.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates
COPY --from=build /src/target/release/windlass /files/usr/local/bin/windlass
# The paths of the libraries are those in the output of ldd.
RUN ldd /files/usr/local/bin/windlass | grep -o '/[^ ]*' | xargs cp --dereference --parents --target-directory /files \
    && mkdir -p /files/etc/ssl/certs /files/var/lib \
    && cp /etc/ssl/certs/ca-certificates.crt /files/etc/ssl/certs/ \
    && echo 'hosts: files dns' >/files/etc/nsswitch.conf \
    && echo 'windlass:x:10001:10001::/var/lib/windlass:/usr/sbin/nologin' >/files/etc/passwd \
    && echo 'windlass:x:10001:' >/files/etc/group \
    && install -d -m 0700 -o 10001 -g 10001 /files/var/lib/windlass

FROM scratch
COPY --from=files /files /
# A numeric id, so that Kubernetes can verify that it is not root (runAsNonRoot).
USER 10001:10001
ENV PATH=/usr/local/bin WINDLASS_LISTEN=0.0.0.0:8080 WINDLASS_DATA_DIR=/var/lib/windlass
VOLUME /var/lib/windlass
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=5s --start-period=90s CMD ["windlass", "health"]
ENTRYPOINT ["windlass"]
ARG VERSION=unknown REVISION=unknown
LABEL org.opencontainers.image.title="windlass" \
    org.opencontainers.image.description="OpenAI's Uploads and Files API on your own Postgres and S3-compatible storage" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"
