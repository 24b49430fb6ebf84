# Two stages: the first exports the model with torch, the second only serves it. Both install what
# `make lock` has pinned by hash.
#   docker build -t unitvec .
# It refuses to serve the network in plaintext or to strangers. For this machine alone:
#   docker run -p 127.0.0.1:50051:50051 -e UNITVEC_INSECURE=true unitvec
# For others (docs/operations/security.md):
#   docker run -p 50051:50051 -v /etc/unitvec:/secrets:ro --stop-timeout 40 \
#     -e UNITVEC_TLS_CERT=/secrets/tls.crt -e UNITVEC_TLS_KEY=/secrets/tls.key \
#     -e UNITVEC_TOKEN_FILE=/secrets/tokens unitvec
FROM python:3.11-slim AS export
# An index of CPU builds of torch saves this stage gigabytes of CUDA libraries. Its builds are not
# the ones pinned by hash: with it this stage, and only this one, is pinned by version.
#   docker build --build-arg PIP_EXTRA_INDEX_URL=... -t unitvec .
ARG PIP_EXTRA_INDEX_URL
WORKDIR /src
# For the fused operator.
RUN apt-get update -qq \
 && apt-get install -qq --yes --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
COPY deploy/requirements-export.txt deploy/
RUN if [ -z "$PIP_EXTRA_INDEX_URL" ]; then \
      pip install --no-cache-dir --require-hashes --requirement deploy/requirements-export.txt; fi
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE.md ./
COPY protos protos
COPY server server
COPY client client
COPY export export
COPY loadtest loadtest
COPY bulk bulk
COPY kernels kernels
# After the pinned install there is nothing left to fetch here but unitvec itself.
RUN pip install --no-cache-dir --constraint constraints.txt hatchling scikit-build-core cmake ninja \
 && pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . ./kernels \
 && pip install --no-cache-dir --constraint constraints.txt \
      "$(echo /wheels/unitvec-*.whl)[export]" /wheels/unitvec_kernels-*.whl
RUN unitvec-export --out /models/all-MiniLM-L6-v2 --precision fp32,int16,int8

FROM python:3.11-slim
COPY deploy/requirements-server.txt /wheels/
RUN pip install --no-cache-dir --require-hashes --requirement /wheels/requirements-server.txt
COPY --from=export /wheels /wheels
RUN pip install --no-cache-dir --no-index --no-deps /wheels/*.whl && rm -rf /wheels
COPY --from=export /models /models
USER 65534:65534
EXPOSE 50051
ENV UNITVEC_MODEL=/models/all-MiniLM-L6-v2 UNITVEC_HOST=0.0.0.0
ENTRYPOINT ["unitvec-serve"]
