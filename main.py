"""Builds the service and its application: `uvicorn main:app`."""
# [Task]: T052, T069, T078, T092, T096, T097, T110, T113, T114, T173 [From]: specs/database/schema.md, specs/api/rest-endpoints.md, specs/reliability.md

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, request_response
from starlette.middleware import Middleware

from auth.jwks import KeySet
from auth.key_client import KeyClient
from auth.tokens import TokenVerifier
from config import Settings, load_settings
from db import Database
from errors import ERROR_HANDLERS
from live import Live
from logs import configure_logging
from middleware.cors import Cors
from middleware.errors import AnswerErrors
from middleware.normalize import Normalize
from middleware.rate_limit import LimitRate
from middleware.redact_spans import RedactSpans
from middleware.request_log import RequestLog
from middleware.require_https import RequireHTTPS
from middleware.startup import PlainStartupErrors
from rates import RateLimiter
from readiness import ReadinessCheck
from routes import docs, events, health, metrics, tasks
from runtime.connections import end_unread
from runtime.development import development_secret, print_demo
from runtime.report import report_settings
from runtime.signals import calling_at_stop, ending_at_once, limit_stop
from runtime.startup import NotStarted, prepare_database
from runtime.telemetry import telemetry_config

logger = logging.getLogger(__name__)


def run_in_background(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Runs a background task until the stack closes, and logs its failure, which nothing else would report."""

    def report(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("A background task failed: restart the service, and report this", exc_info=error)

    task = asyncio.create_task(work)
    task.add_done_callback(report)
    stack.callback(task.cancel)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Opens what lives as long as the service (the database, the published keys, the verifier), and closes it."""
    settings: Settings = app.state.settings
    report_settings(settings)
    limit_stop(settings.shutdown_timeout)
    async with AsyncExitStack() as stack:
        run_in_background(stack, end_unread(settings.send_timeout))
        keys = None
        # Before the wait for the database, since this may refuse the start.
        if settings.published_keys_url is not None:
            keys = KeySet(KeyClient(settings.published_keys_url, f"todo-api/{app.version}"))
            stack.push_async_callback(keys.close)

        database = Database(settings)
        stack.push_async_callback(database.close)
        with ending_at_once():
            await prepare_database(database, settings)

        secret = settings.better_auth_secret.get_secret_value() if settings.better_auth_secret else None
        if settings.is_keyless:
            secret = development_secret()
            run_in_background(stack, print_demo(secret, settings.jwt_algorithm))

        app.state.database = database
        app.state.live = live = Live(database, settings.live_interval, settings.seconds_until_idle)
        run_in_background(stack, live.run())
        stack.enter_context(calling_at_stop(live.stop))
        if settings.rate_limit:
            app.state.rate_limiter = RateLimiter(settings.rate_limit, settings.rate_limit_storage.get_secret_value())
            stack.push_async_callback(app.state.rate_limiter.close)
        app.state.readiness = ReadinessCheck(settings)
        stack.push_async_callback(app.state.readiness.close)
        expected = {"issuer": settings.jwt_issuer, "audience": settings.jwt_audience}
        expected["origin"] = settings.better_auth_origin  # in the place of either
        app.state.token_verifier = TokenVerifier(secret=secret, algorithm=settings.jwt_algorithm, keys=keys, **expected)
        yield


def create_app(settings: Settings) -> FastAPI:
    """Builds the application, which connects to nothing before its lifespan begins.

    Raises `StartupError` if OpenTelemetry is configured but not installed.
    """
    telemetry = telemetry_config()
    app = FastAPI(
        title="Todo API",
        summary="A multi-user todo list for a frontend with Better Auth.",
        version="0.1.0",
        lifespan=lifespan,
        telemetry=telemetry,
        # `Normalize` serves a trailing slash, so there is nothing to redirect.
        redirect_slashes=False,
        # `routes/docs.py` has them, without the internet.
        docs_url=None,
        redoc_url=None,
        exception_handlers=ERROR_HANDLERS,
        # The outermost first.
        middleware=[
            Middleware(PlainStartupErrors),
            *([Middleware(RedactSpans)] if telemetry["tracing"] else []),
            Middleware(RequestLog, is_measured=settings.metrics_token is not None),
            Middleware(Normalize),
            Middleware(Cors, settings.allowed_origins),
            *([Middleware(RequireHTTPS)] if settings.require_https else []),
            # Outside of `AnswerErrors`, so that its answers have the quota, too.
            *([Middleware(LimitRate)] if settings.rate_limit else []),
            Middleware(AnswerErrors, settings.request_timeout),
        ],
    )
    app.state.settings = settings
    state = app.state
    state.database = state.readiness = state.token_verifier = state.live = state.rate_limiter = NotStarted()
    routers = [tasks.router, events.router, health.router, docs.router]
    add_routes(app, *routers, *([metrics.router] if settings.metrics_token else []))
    return app


def add_routes(app: FastAPI, *routers: APIRouter) -> None:
    """Adds the routers' routes to the application itself, ahead of its own, so that its `dependency_overrides` apply.

    `include_router` would match each request twice, which costs 17 µs.
    """
    routes = [copy(route) for router in routers for route in router.routes if isinstance(route, APIRoute)]
    for route in routes:
        route.dependency_overrides_provider = app
        route.app = request_response(route.get_route_handler())
    app.router.routes[:0] = routes


def settle_garbage_collector() -> None:
    """Exempts what is loaded by now from garbage collection, and collects less often than Python's default:
    reference counting frees nearly all that a request allocates.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


app = create_app(load_settings())
configure_logging(app.state.settings.log_level, sql=app.state.settings.debug)
settle_garbage_collector()
