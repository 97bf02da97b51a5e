# scroll-tracer without CUDA: docker build -t scroll-tracer . && docker run -v $PWD:/data scroll-tracer --help
FROM python:3.12-slim
# libusb, libgl and libgomp: Open3D
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgl1 libgomp1 libusb-1.0-0 \
 && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml README.md LICENSE /src/
COPY tracer /src/tracer
COPY kernels /src/kernels
COPY cli /src/cli
RUN pip install --no-cache-dir "/src[remote]"
# compiled kernels are kept here; mount a volume to keep them between containers
ENV NUMBA_CACHE_DIR=/var/cache/tracer OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
WORKDIR /data
ENTRYPOINT ["tracer"]
