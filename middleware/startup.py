"""A start that fails, or never was, says why in plain words."""
# [Task]: T052, T078, T114 [From]: specs/database/schema.md, specs/api/rest-endpoints.md, specs/reliability.md

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from errors import ServiceUnavailable, StartupError


class PlainStartupErrors:
    """Reports a `StartupError` of the lifespan by its message; Starlette would report it, as any
    other, by its traceback.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        report: Message = {}

        async def hold_report(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                report.update(message)
            else:
                await send(message)

        try:
            await self.app(scope, receive, hold_report)
        except StartupError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        except BaseException:
            if report:
                await send(report)
            raise


class NotStarted:
    """Is in the place of what the lifespan makes, for a server that runs none: whatever is asked of
    it is a 503.
    """

    def __getattr__(self, name: str) -> Any:
        raise ServiceUnavailable(
            "The service wasn't started: its server runs no lifespan. Turn it on (uvicorn:"
            " --lifespan on), or, where the service is mounted in another application, enter"
            " main.app.router.lifespan_context(main.app) in the lifespan of that one.",
            detail="The service has not started",
        )
