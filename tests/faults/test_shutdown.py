"""A database that is about to stop, and refuses new connections."""
# [Task]: T087 [From]: specs/reliability.md

import signal

import pytest

from backends.faults import Fault
from tests.faults.postgres import PrivatePostgres
from tests.service import counted, make_settings, running


@pytest.mark.requirement("T087")
async def test_a_database_that_shuts_down_is_503(killable: PrivatePostgres) -> None:
    database = await killable.make_database()
    settings = make_settings(database_url=killable.url(database), db_pool_size=1)
    async with running(settings) as service:
        user = service.user()
        # Open connections may stay until their clients close them ("smart shutdown").
        async with killable.admin(database), service.app.state.database.engine.connect():
            before = counted("database_faults", fault=Fault.SHUTTING_DOWN)
            killable.tell(signal.SIGTERM)
            while await killable.accepts():
                pass
            answer = await user.get()
            assert counted("database_faults", fault=Fault.SHUTTING_DOWN) == before + 2

        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        await service.app.state.database.engine.dispose()
        await killable.wait_until_stopped()
        await killable.start()
        assert (await user.get()).status_code == 200
