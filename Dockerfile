# One image for migrate, apply, worker, beat and serve: the command selects which.
#   docker build -t pgvector-sync .
#   docker build -t pgvector-sync --build-arg EXTRAS=[web,local] .      with the in-process model

FROM python:3.12-slim@sha256:78387bc3881b8273120a12ebe6c1ab22b018ccc2c9adf565ae1ac9b536e184ea AS build
ARG EXTRAS="[web]"
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY worker ./worker
COPY sql ./sql
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist . \
 && python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt "$(ls /dist/*.whl)${EXTRAS}"

FROM python:3.12-slim@sha256:78387bc3881b8273120a12ebe6c1ab22b018ccc2c9adf565ae1ac9b536e184ea
# A passwd entry as well as a numeric user: libpq needs the user's name, Kubernetes' runAsNonRoot a number.
RUN useradd --system --uid 10001 --user-group --create-home --home-dir /var/lib/pgvector-sync pgvector-sync
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# Only /tmp is written to, so the rest of the file system may be read-only.
WORKDIR /var/lib/pgvector-sync
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["pgvector-sync"]
CMD ["--help"]
