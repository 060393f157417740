# The service. BASE is an image with Python 3.11 or later, with venv.
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
# The bytecode is not checked against times, which a copy between stages rounds.
ENV UV_COMPILE_BYTECODE=1 PYC_INVALIDATION_MODE=UNCHECKED_HASH UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=/opt/venv
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --quiet --no-cache-dir uv==0.13.9
WORKDIR /app
# In a layer of their own, which a change of the code leaves as it is.
COPY pyproject.toml uv.lock ./
RUN /opt/uv/bin/uv sync --quiet --no-cache --locked --no-dev --python "$(command -v python3)" && rm -f /opt/venv/.lock
# What .dockerignore lets through.
COPY . .
RUN /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash .

FROM ${BASE}
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
# An empty DATABASE_URL is refused at start: an SQLite file would go with the container.
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 DATABASE_URL=
# By its number, so that Kubernetes can tell that it isn't root.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-c", "import http.client, os; connection = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT', 8000)), timeout=2); connection.request('GET', '/health'); raise SystemExit(connection.getresponse().status != 200)"]
# exec, so that the signal reaches uvicorn.
CMD ["sh", "-c", "exec uvicorn main:app --host 0.0.0.0 --port ${PORT:-8000}"]
