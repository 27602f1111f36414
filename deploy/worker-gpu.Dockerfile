# A worker for NVIDIA GPUs: ONNX Runtime with its CUDA and TensorRT providers, and TensorRT; the CPU engines of both runtimes, too.
# Build from the repository's root: docker build -f deploy/worker-gpu.Dockerfile -t quantfleet-worker-gpu .
# With Paddle 2.6 for paddle-gpu and paddle-tensorrt, 5 GB more: add --build-arg PADDLE26=with
# The host brings a driver for CUDA 13 (580 or newer) and NVIDIA's container toolkit; CUDA itself is in here.
ARG PADDLE26=without

FROM python:3.11-slim-bookworm AS build
# gcc compiles the tap, which counts activations; Debian keeps one version of it per release, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
RUN python -m venv /opt/quantfleet
COPY . .
# CUDA and cuDNN come as NVIDIA's wheels, of the versions that ONNX Runtime asks for: a base image with CUDA would bring
# another Python and a second copy. ONNX Runtime 1.31 is built for CUDA 13 and linked to libnvinfer.so.10: so TensorRT is
# the newest 10, which has calibrators, too. Its wheel is fetched from NVIDIA by the stub that PyPI has.
# onnxruntime and onnxruntime-gpu are one package under two names: the second is written over the first.
RUN /opt/quantfleet/bin/pip install --no-cache-dir -c constraints.txt ".[worker,onnxruntime,paddle,gpu,onnxruntime-tensorrt]" \
      "onnxruntime-gpu[cuda,cudnn]==1.31.1" "tensorrt-cu13==10.16.1.11" "cuda-bindings==13.4.4" \
 && /opt/quantfleet/bin/pip install --no-cache-dir --no-deps --force-reinstall "onnxruntime-gpu==1.31.1"

FROM build AS paddle26-without
RUN mkdir /opt/paddle26

# CUDA 11.8, cuDNN 8 and TensorRT 8.5: what PaddlePaddle 2.6.2 of PyPI was built with. It opens them by their names
# without a version, under which nothing but links for developers has them.
FROM nvcr.io/nvidia/tensorrt:22.12-py3 AS cuda11
RUN mkdir /cuda11 \
 && for name in cublas cublasLt cudart cufft curand cusolver cusparse nvrtc nvrtc-builtins nvToolsExt; do \
      cp --archive /usr/local/cuda/lib64/lib"$name".so.* /cuda11/ || exit 1; done \
 && for name in cudnn nvinfer nvonnxparser nvparsers; do \
      cp --archive /usr/lib/x86_64-linux-gnu/lib"$name"*.so.* /cuda11/ || exit 1; done \
 && for library in /cuda11/*.so.*; do \
      ln --symbolic --force "${library##*/}" "${library%%.so.*}.so"; done

FROM build AS paddle26-with
COPY --from=cuda11 /cuda11 /opt/paddle26/cuda
# paddle 2.6 wants a numpy that quantfleet's own environment does not: quantfleet goes in without its dependencies, and
# beside it what a task's process imports.
# The interpreter for --interpreter is /opt/paddle26/python, which finds this CUDA and no other.
RUN python -m venv /opt/paddle26 \
 && /opt/paddle26/bin/pip install --no-cache-dir "paddlepaddle-gpu==2.6.2" "numpy==1.26.4" "protobuf>=7.36.2" \
      "cuda-python==11.8.*" pyyaml psutil pillow "opencv-python-headless<4.12" pycocotools tokenizers \
 && /opt/paddle26/bin/pip install --no-cache-dir --no-deps . \
 && printf '#!/bin/sh\nLD_LIBRARY_PATH=/opt/paddle26/cuda exec /opt/paddle26/bin/python "$@"\n' > /opt/paddle26/python \
 && chmod 755 /opt/paddle26/python

# hadolint ignore=DL3006
FROM paddle26-${PADDLE26} AS paddle26

FROM python:3.11-slim-bookworm
# libgomp1: paddle's OpenMP, which its wheel does not carry. Debian keeps one version of it per release, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 quantfleet \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/quantfleet --create-home --shell /usr/sbin/nologin quantfleet
COPY --from=build /opt/quantfleet /opt/quantfleet
COPY --from=paddle26 /opt/paddle26 /opt/paddle26
# The wheels' libraries lie where the loader does not look.
RUN find /opt/quantfleet/lib -type d \( -path '*/nvidia/*/lib' -o -name tensorrt_libs \) > /etc/ld.so.conf.d/quantfleet.conf \
 && ldconfig
# NVIDIA's container toolkit reads both: which GPUs, and that CUDA and NVML are wanted of the driver.
ENV PATH=/opt/quantfleet/bin:$PATH PYTHONUNBUFFERED=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /var/lib/quantfleet
VOLUME /var/lib/quantfleet
ENTRYPOINT ["quantfleet"]
CMD ["worker", "run", "--state", "/var/lib/quantfleet/worker"]
