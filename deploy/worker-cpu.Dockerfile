# A worker for CPU engines: ONNX Runtime, OpenVINO and Paddle (oneDNN), in Ray actors; it trains, too.
# Build from the repository's root: docker build -f deploy/worker-cpu.Dockerfile -t quantfleet-worker-cpu .
FROM python:3.11-slim-bookworm AS build
# gcc compiles the tap, which counts activations; Debian keeps one version of it per release, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
WORKDIR /src
RUN python -m venv /opt/quantfleet
COPY . .
# PaddleSlim asks for an opencv-python that does not load with numpy 2: it goes in without its dependencies.
RUN /opt/quantfleet/bin/pip install --no-cache-dir -c constraints.txt ".[worker,onnxruntime,openvino,paddle,training]" \
 && /opt/quantfleet/bin/pip install --no-cache-dir --no-deps paddleslim==2.6.0

FROM python:3.11-slim-bookworm
# libgomp1: paddle's OpenMP, which its wheel does not carry. Debian keeps one version of it per release, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 quantfleet \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/quantfleet --create-home --shell /usr/sbin/nologin quantfleet
COPY --from=build /opt/quantfleet /opt/quantfleet
ENV PATH=/opt/quantfleet/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/quantfleet
VOLUME /var/lib/quantfleet
ENTRYPOINT ["quantfleet"]
CMD ["worker", "run", "--state", "/var/lib/quantfleet/worker"]
