# [Task]: T079, T096, T097 [From]: specs/api/rest-endpoints.md, specs/reliability.md
"""The tests. What a library reads from the environment at import is gone before that."""

import os

for name in list(os.environ):
    if name.startswith(("PROMETHEUS_", "OTEL_", "FASTAPI_")):
        del os.environ[name]
