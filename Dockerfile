# A Valkey server with the write-behind log, on the official image. Data are in the volume /data, the log in /data/wbl.
#   docker build -t valkey-wbl .
#   docker run -d -p 6379:6379 -v valkey:/data --stop-timeout 60 valkey-wbl
FROM rust:1-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends libclang-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /valkey-wbl
COPY . .
RUN cargo build --release --locked --lib --no-default-features --target-dir /build/module \
    && cargo build --release --locked --bin wbl --target-dir /build/tool

FROM valkey/valkey:9.1
COPY --from=build /build/module/release/libvalkey_wbl.so /usr/lib/valkey/modules/libvalkey_wbl.so
COPY --from=build /build/tool/release/wbl /usr/local/bin/wbl
CMD ["valkey-server", "--loadmodule", "/usr/lib/valkey/modules/libvalkey_wbl.so", "--save", "", "--wbl.dir", "wbl"]
