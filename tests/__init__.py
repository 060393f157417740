"""The tests. What the service and its libraries read from the environment at import is gone before
that, and so is `.env`.
"""
# [Task]: T079, T096, T097, T115 [From]: specs/api/rest-endpoints.md, specs/reliability.md

import contextlib
import logging
import os
import tempfile

from config import Settings

SETTINGS = {*Settings.model_fields, "cors_origins", "http_proxy", "https_proxy", "all_proxy"}

for name in list(os.environ):
    if name.startswith(("PROMETHEUS_", "OTEL_", "FASTAPI_")) or name.lower() in SETTINGS:
        del os.environ[name]

with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
    import main  # noqa: F401 - makes its `app` from the settings

# The tests have their own ways to look at the log.
logging.getLogger().handlers.clear()
