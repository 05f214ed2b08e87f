# The image of the service: VARIANT is rocm (AMD), cuda (NVIDIA) or cpu; `--target tools` is the
# command line alone, without torch. docs/containers.md tells how it is used.
#
# PyTorch's wheels bring their own ROCm or CUDA, so what stands below them is a slim Python: a
# vendor's image would hold the same libraries a second time.
ARG PYTHON_VERSION=3.12
ARG VARIANT=rocm

# Wheels of your own, tried beside the index: --build-context wheels=FOLDER
FROM scratch AS wheels

# ---------------------------------------------------------------- what everything stands on
FROM python:${PYTHON_VERSION}-slim AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONFAULTHANDLER=1 \
    PYTHONUNBUFFERED=1
# The numbers are fixed, so that volumes and Kubernetes can name them. /cache is made here with
# its owner: a new named volume takes both over.
RUN groupadd --gid 1000 imagegen \
 && useradd --uid 1000 --gid 1000 --home-dir /cache --no-create-home --no-log-init imagegen \
 && install --directory --owner=1000 --group=1000 /cache /work

# ---------------------------------------------------------------- what is installed, as lists
# Lists of what we need without us in them: the layers made of them stay as they are when only our
# own code has changed, and that is gigabytes.
FROM base AS lists
WORKDIR /lists
COPY constraints.txt pyproject.toml ./
COPY clients/python/pyproject.toml client.toml
RUN <<EOF
#!/usr/bin/env python3
import pathlib, tomllib

def project(name):
    return tomllib.loads(pathlib.Path(name).read_text())["project"]

ours = project("pyproject.toml")
tools = project("client.toml")["dependencies"] + [
    needed for needed in ours["dependencies"] if needed != "imagegen-client"
]
service = tools + ours["optional-dependencies"]["service"]
pins = pathlib.Path("constraints.txt").read_text().splitlines()
torch = [pin for pin in pins if pin.startswith("torch==")]
for name, lines in {"tools": tools, "service": service, "torch": torch}.items():
    pathlib.Path(f"{name}.txt").write_text("\n".join([*lines, ""]))
EOF

# ---------------------------------------------------------------- our own packages, as wheels
FROM base AS ours
RUN --mount=type=bind,target=/src,rw \
    --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /dist /src/clients/python /src

# ---------------------------------------------------------------- the command line alone
FROM base AS tools
RUN --mount=type=bind,from=lists,source=/lists/tools.txt,target=/tools.txt \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint /constraints.txt --requirement /tools.txt
RUN --mount=type=bind,from=ours,source=/dist,target=/dist \
    pip install --no-cache-dir --no-deps --no-index /dist/*.whl \
 && pip check
ARG VERSION=0.1.0
# The commit that it was made of: --build-arg REVISION=$(git rev-parse HEAD)
ARG REVISION
LABEL org.opencontainers.image.title="imagegen tools" \
      org.opencontainers.image.description="The command line of imagegen, without torch" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["imagegen"]
CMD ["--help"]

# ---------------------------------------------------------------- where each variant's torch is
FROM base AS torch-rocm
ARG DEFAULT_INDEX=https://download.pytorch.org/whl/rocm7.2

FROM base AS torch-cuda
ARG DEFAULT_INDEX=https://download.pytorch.org/whl/cu130

FROM base AS torch-cpu
ARG DEFAULT_INDEX=https://download.pytorch.org/whl/cpu

# ---------------------------------------------------------------- the service
# One of the stages above, which have no tags.
# hadolint ignore=DL3006
FROM torch-${VARIANT} AS service
ARG TORCH_INDEX
# Alone and from one index: as a second index beside the general one, pip would take whichever
# version sorts highest, which on an AMD machine is the build for CUDA. What torch brings along
# comes from there too, in any version; the next step sets it to the pinned one.
RUN --mount=type=bind,from=lists,source=/lists/torch.txt,target=/torch.txt \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=cache,target=/root/.cache/pip \
    pip install --find-links /wheels --index-url "${TORCH_INDEX:-${DEFAULT_INDEX}}" \
        --requirement /torch.txt
RUN --mount=type=bind,from=lists,source=/lists/service.txt,target=/service.txt \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint /constraints.txt --requirement /service.txt
RUN --mount=type=bind,from=ours,source=/dist,target=/dist \
    pip install --no-cache-dir --no-deps --no-index /dist/*.whl \
 && pip check

# All that is written goes to /cache: models, compiled kernels, jobs and results. Kernels that
# MIOpen, Triton and inductor have found once need not be searched for at every start.
ENV HOME=/cache \
    XDG_CACHE_HOME=/cache \
    HF_HOME=/cache/huggingface \
    MIOPEN_USER_DB_PATH=/cache/miopen \
    MIOPEN_CUSTOM_CACHE_DIR=/cache/miopen \
    TRITON_CACHE_DIR=/cache/triton \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    IMAGE_GEN_DATA_DIR=/cache/imagegen \
    IMAGE_GEN_HOST=0.0.0.0
ARG VARIANT
ARG VERSION=0.1.0
# The commit that it was made of: --build-arg REVISION=$(git rev-parse HEAD)
ARG REVISION
LABEL org.opencontainers.image.title="imagegen" \
      org.opencontainers.image.description="Text to image on your own GPU, fed by RabbitMQ (${VARIANT})" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
USER 1000:1000
WORKDIR /cache
EXPOSE 8034
STOPSIGNAL SIGTERM
# The first start downloads the model: until the start period is over, not ready is not unhealthy.
HEALTHCHECK --start-period=60m --start-interval=5s --interval=30s --timeout=10s --retries=3 \
    CMD ["imagegen", "healthcheck"]
CMD ["imagegen", "serve"]
