# Builds the program and packs it with nothing but what it needs at run time. `ops/dev/check-images` runs the build and
# start lines of this file without a container engine.

FROM rust:1.95-bookworm AS build
# librdkafka is compiled by its own make, AWS-LC and SQLite by the C compiler; zlib is linked.
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential cmake perl pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin orderflow \
    && cp target/release/orderflow /usr/local/bin/orderflow

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/orderflow orderflow \
    && install -d -o orderflow -g orderflow -m 700 /var/lib/orderflow/secrets
COPY --from=build /usr/local/bin/orderflow /usr/local/bin/orderflow
USER orderflow
WORKDIR /var/lib/orderflow
EXPOSE 8080
STOPSIGNAL SIGTERM
# No HEALTHCHECK: only some commands listen. docker-compose.yml asks /health/live of the one that serves.
ENTRYPOINT ["orderflow"]
CMD ["--help"]
