# Windlass alone: the program, root certificates, and a user without rights. It needs a DATABASE_URL.

FROM rust:1-slim-bookworm AS build
WORKDIR /src
# The dependencies in a layer of their own, which stays as long as Cargo.lock does. Every target that Cargo.toml names
# has to have a file.
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches/bench && touch src/lib.rs && echo 'fn main() {}' | tee src/main.rs >benches/bench/main.rs \
    && cargo build --release --locked
COPY . .
# Cargo compares times, and these files may be older than the empty ones above.
RUN touch src/lib.rs src/main.rs && cargo build --release --locked

FROM debian:bookworm-slim
# The certificates are wanted as new as they are, so no version is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --home-dir /var/lib/windlass --shell /usr/sbin/nologin windlass \
    && install -d -m 0700 -o windlass -g windlass /var/lib/windlass
COPY --from=build /src/target/release/windlass /usr/local/bin/
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
ENV WINDLASS_LISTEN=0.0.0.0:8080 WINDLASS_DATA_DIR=/var/lib/windlass
VOLUME /var/lib/windlass
EXPOSE 8080
# There is no curl in the image; bash speaks enough HTTP.
HEALTHCHECK --interval=5s --timeout=3s --start-period=90s CMD ["bash", "-c", "port=${WINDLASS_LISTEN##*:} && exec 3<>/dev/tcp/127.0.0.1/${port:-8080} && printf 'GET /livez HTTP/1.0\\r\\n\\r\\n' >&3 && read -r status <&3 && [[ $status == *' 200 '* ]]"]
ENTRYPOINT ["windlass"]
