# One image for every machine of a cluster and for the driver, so that all have the same versions.
#   docker build --build-arg COMMIT="$(git rev-parse HEAD)" -t medvision .
#   docker run --rm --gpus all --network host -v /data/msd:/data:ro -v /shared/runs:/runs -v medvision-cache:/cache \
#       -e RAY_AUTH_TOKEN medvision ray start --address=HEAD:6379 --block
#   docker run --rm --network host -v /data/msd:/data:ro -v /shared/runs:/runs -v medvision-cache:/cache \
#       -e RAY_AUTH_TOKEN medvision medvision run full --address HEAD:6379 --set storage=/runs
FROM python:3.11-slim-bookworm

# KubeRay before 1.6 asks a pod for its health with wget.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/medvision
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY ablations ablations
COPY medvision medvision
COPY orchestrator orchestrator
COPY record record
COPY reports reports
# The wheel of torch for Linux brings CUDA with it; the machine gives the driver (nvidia-container-toolkit).
RUN pip install --no-cache-dir -c constraints.txt '.[cluster]' \
    && useradd --create-home --uid 1000 medvision \
    && mkdir /cache /runs \
    && chown medvision /cache /runs

ARG COMMIT=""
ENV MEDVISION_COMMIT=${COMMIT} \
    MEDVISION_DATA=/data \
    MEDVISION_CACHE=/cache \
    RAY_AUTH_MODE=token
USER 1000
WORKDIR /home/medvision
CMD ["medvision", "--help"]
