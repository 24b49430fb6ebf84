# Two stages: the first exports the model with torch, the second only serves it.
#   docker build -t unitvec .
#   docker run -p 50051:50051 unitvec
FROM python:3.11-slim AS export
# Name an index of CPU builds of torch to save this stage gigabytes of CUDA libraries:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=... -t unitvec .
ARG PIP_EXTRA_INDEX_URL
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE.md ./
COPY protos protos
COPY server server
COPY client client
COPY export export
COPY loadtest loadtest
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /wheels
RUN pip install --no-cache-dir --constraint constraints.txt \
      "$(echo /wheels/*.whl)[export]"
RUN unitvec-export --out /models/all-MiniLM-L6-v2 --precision fp32,int8

FROM python:3.11-slim
COPY --from=export /wheels /wheels
COPY --from=export /src/constraints.txt /wheels/
RUN pip install --no-cache-dir --constraint /wheels/constraints.txt \
      "$(echo /wheels/*.whl)[server]" && rm -rf /wheels
COPY --from=export /models /models
USER 65534:65534
EXPOSE 50051
# Plaintext and without a token: put it behind your own network boundary, or mount
# certificates and a token file and set UNITVEC_TLS_CERT, UNITVEC_TLS_KEY, UNITVEC_TOKEN_FILE.
ENV UNITVEC_MODEL=/models/all-MiniLM-L6-v2 UNITVEC_HOST=0.0.0.0
ENTRYPOINT ["unitvec-serve"]
