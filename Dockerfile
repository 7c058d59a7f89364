# syntax=docker/dockerfile:1
# One file, three images: docker build --target operator|router|worker --tag tandem-worker:0.1.0 .
# pip takes PIP_EXTRA_INDEX_URL as a build argument: an index with CPU builds of torch, say.

FROM python:3.11-slim AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY router router
COPY worker worker
COPY e2e/tandem_sim e2e/tandem_sim
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim AS base
# Safe path: a file in the working directory never shadows a module.
ENV PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1
WORKDIR /opt/tandem
COPY --from=wheel /wheels /opt/wheels
COPY constraints.txt /opt/wheels/
ENTRYPOINT ["tandem"]

FROM base AS operator
ARG PIP_EXTRA_INDEX_URL
RUN pip install --no-cache-dir --constraint /opt/wheels/constraints.txt "$(echo /opt/wheels/*.whl)[operator]"
USER 65532:65532

FROM base AS router
ARG PIP_EXTRA_INDEX_URL
RUN pip install --no-cache-dir --constraint /opt/wheels/constraints.txt "$(echo /opt/wheels/*.whl)[router]"
USER 65532:65532

FROM base AS worker
ARG PIP_EXTRA_INDEX_URL
RUN pip install --no-cache-dir --constraint /opt/wheels/constraints.txt "$(echo /opt/wheels/*.whl)[worker]"
# The quickstart's model; other checkpoints come from a volume.
COPY models/recall models/recall
USER 65532:65532
