# The image of `make image`, for those who have an engine: both take their layers from
# deploy/image/layers.sh and say the same of how they start.
#   docker build -t unitvec .
# It refuses to serve the network in plaintext or to strangers. For this machine alone:
#   docker run -p 127.0.0.1:50051:50051 -e UNITVEC_INSECURE=true unitvec
# With HTTP beside gRPC: -p 127.0.0.1:8080:8080 -e UNITVEC_HTTP_PORT=8080
# For others (docs/operations/security.md):
#   docker run -p 50051:50051 -v /etc/unitvec:/secrets:ro --stop-timeout 40 \
#     -e UNITVEC_TLS_CERT=/secrets/tls.crt -e UNITVEC_TLS_KEY=/secrets/tls.key \
#     -e UNITVEC_TOKEN_FILE=/secrets/tokens unitvec
FROM debian:trixie-slim AS build
# g++ for the fused operator. None of these is in the image, and Debian drops a version with the next one:
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && apt-get install -qq --yes --no-install-recommends \
      ca-certificates g++ mmdebstrap python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE.md ./
COPY deploy deploy
COPY protos protos
COPY server server
COPY client client
COPY export export
COPY loadtest loadtest
COPY bulk bulk
COPY kernels kernels
# Debian's packages as they were then (YYYYMMDDTHHMMSSZ), and the date that files and labels state.
ARG DEBIAN_SNAPSHOT
ARG SOURCE_DATE_EPOCH
RUN deploy/image/layers.sh /image

FROM scratch
COPY --from=build /image/layers/base /
COPY --from=build /image/layers/dependencies /
COPY --from=build /image/layers/model /
COPY --from=build /image/layers/unitvec /
USER 65534:65534
# HTTP is served where UNITVEC_HTTP_PORT says so.
EXPOSE 50051 8080
ENV PATH=/usr/local/bin:/usr/bin UNITVEC_MODEL=/models/all-MiniLM-L6-v2 UNITVEC_HOST=0.0.0.0
ENTRYPOINT ["unitvec-serve"]
ARG REVISION=unknown
ARG VERSION=unknown
LABEL org.opencontainers.image.title=unitvec \
      org.opencontainers.image.description="Text embeddings over gRPC and HTTP, with all-MiniLM-L6-v2" \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION
