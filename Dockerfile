# Two images. `web` plans, serves and queues; it carries no torch and runs as nobody on a read-only root.
# `worker` is a single-node Ray cluster that runs the probes on the GPU it is given.
#   docker build --target web -t fitproof-web .        docker build --target worker -t fitproof-worker .

FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml README.md constraints.txt ./
COPY templates templates
COPY static static
COPY planner planner
COPY app app
RUN pip wheel --no-deps --wheel-dir /wheels . \
 && python -m venv /opt/fitproof \
 && /opt/fitproof/bin/pip install -c constraints.txt "$(ls /wheels/*.whl)[postgres]" ziglang \
 && cd /opt/fitproof && bin/python -m planner.native_library && bin/pip uninstall --yes ziglang

FROM python:3.12-slim-bookworm AS web
# Nothing is written outside the data volume and /tmp, so `--read-only --tmpfs /tmp` works.
ENV PATH=/opt/fitproof/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FITPROOF_HOST=0.0.0.0 \
    FITPROOF_DATA_DIR=/var/lib/fitproof
RUN useradd --system --uid 10001 --home-dir /var/lib/fitproof --create-home --shell /usr/sbin/nologin fitproof
COPY --from=build /opt/fitproof /opt/fitproof
USER 10001
WORKDIR /var/lib/fitproof
VOLUME /var/lib/fitproof
EXPOSE 8000
# A probe in hand is adopted again after a restart, so a short stop is a safe stop.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=3s --start-period=10s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["fitproof", "serve"]

# torch's own wheels bring the CUDA runtime, cuBLAS and cuDNN they were built with; the host brings the driver.
FROM python:3.12-slim-bookworm AS worker
ENV PATH=/opt/fitproof/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0
# Triton compiles its launcher with a C compiler the first time a kernel of Liger or torch runs.
# Debian's stable release moves these two only for security, and drops old versions from its mirrors: no pins.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/fitproof --create-home --shell /bin/bash fitproof
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /wheels
# hqq comes as source: its build imports torch and would try CUDA, and its list of needs names what the probe has.
RUN python -m venv /opt/fitproof \
 && /opt/fitproof/bin/pip install -c /tmp/constraints.txt "$(ls /wheels/*.whl)[probe]" "ray[default]==2.60.0" \
      setuptools einops termcolor \
 && DISABLE_CUDA=1 /opt/fitproof/bin/pip install -c /tmp/constraints.txt --no-build-isolation --no-deps hqq
USER 10001
WORKDIR /var/lib/fitproof
EXPOSE 6379 8265
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["ray", "health-check", "--address", "127.0.0.1:6379"]
CMD ["ray", "start", "--head", "--block", "--port=6379", "--dashboard-host=0.0.0.0", "--dashboard-port=8265", "--disable-usage-stats"]
