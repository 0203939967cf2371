# Two images of one server: `server` for NVIDIA GPUs, `server-cpu` for machines without one.
#   docker build --target server-cpu -t atelier:cpu .
#   docker build --target server -t atelier:gpu --build-arg FETCH_MODELS="sdxl clip_vit_l14" .
# Both install with scripts/install.sh, as make does; tests/deploy/test_image.py runs these steps without an engine.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS source
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore EDITABLE=0
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE CHANGELOG.md ./
COPY scripts/install.sh scripts/install.sh
COPY protos protos
COPY clients/python clients/python
COPY server server
COPY models models
RUN python -m venv /opt/atelier

FROM source AS install-cpu
RUN scripts/install.sh /opt/atelier cpu postgres

FROM source AS install-gpu
RUN scripts/install.sh /opt/atelier gpu postgres

# What both images have but the installed packages. /models may be mounted over; /var/lib/atelier is what to keep.
FROM python:${PYTHON}-slim-bookworm AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 atelier \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/atelier --create-home --shell /usr/sbin/nologin atelier
ENV PATH=/opt/atelier/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ATELIER_LISTEN=0.0.0.0:8001 \
    ATELIER_METRICS_LISTEN=0.0.0.0:8002 \
    ATELIER_MODEL_REPOSITORY=/models \
    ATELIER_STATE_DIR=/var/lib/atelier \
    ATELIER_LOG_FORMAT=json
WORKDIR /var/lib/atelier
COPY --chown=10001:10001 models /models
EXPOSE 8001 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 CMD ["atelier-server", "health"]
ENTRYPOINT ["tini", "--", "atelier-server"]
# It refuses to listen beyond the container without TLS and tokens; `serve --insecure` says that this is meant.
CMD ["serve"]

FROM base AS server-cpu
ARG FETCH_MODELS=""
COPY --from=install-cpu /opt/atelier /opt/atelier
USER 10001:10001
RUN for model in $FETCH_MODELS; do atelier-server models fetch "$model" || exit 1; done

# torch brings CUDA's libraries along, so that the host needs the driver and NVIDIA's container toolkit only.
FROM base AS server
ARG FETCH_MODELS=""
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=install-gpu /opt/atelier /opt/atelier
USER 10001:10001
RUN for model in $FETCH_MODELS; do atelier-server models fetch "$model" || exit 1; done
