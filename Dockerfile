# One image for all of Samla's processes; docker-compose.yml says which one a container runs.
FROM python:3.11-slim-bookworm AS build

WORKDIR /samla
COPY requirements.lock ./
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock

FROM python:3.11-slim-bookworm

RUN useradd --system --uid 10001 --home-dir /samla samla \
    && mkdir -p /samla/data \
    && chown samla /samla/data
WORKDIR /samla
COPY --from=build /venv /venv
COPY contracts contracts
COPY shared shared
COPY services services

ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/samla \
    PYTHONUNBUFFERED=1 \
    SAMLA_BIND=0.0.0.0 \
    SAMLA_HOME=/samla/data
USER 10001

CMD ["python", "-m", "services.collector.edge"]
