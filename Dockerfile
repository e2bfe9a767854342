# Builder -> small runtime. The runtime carries PostgreSQL for a private database; with DATABASE_URL set it stays unused.
FROM rust:1.95-bookworm AS builder
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/coalface /coalface

FROM debian:bookworm-slim
RUN mkdir -p /etc/postgresql-common && echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf \
 && apt-get update && apt-get install -y --no-install-recommends ca-certificates postgresql tini && rm -rf /var/lib/apt/lists/* \
 && useradd --system --home-dir /var/lib/coalface --create-home coalface
COPY --from=builder /coalface /usr/local/bin/coalface
USER coalface
ENV COALFACE_DATA=/var/lib/coalface COALFACE_LISTEN=0.0.0.0:8080 COALFACE_INGEST_LISTEN=0.0.0.0:8088 COALFACE_LOG=json
VOLUME /var/lib/coalface
EXPOSE 8080 8088
# tini takes in the server's orphans after a crash, which process 1 has to do
ENTRYPOINT ["tini", "--", "coalface"]
CMD ["serve"]
