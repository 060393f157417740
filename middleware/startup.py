# [Task]: T052, T078 [From]: specs/database/schema.md, specs/api/rest-endpoints.md
"""A start that fails says why in plain words."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faults import StartupError


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
