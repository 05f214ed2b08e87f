"""The bound: how many may wait in the live queue, asked of the management API while a session lives."""

import asyncio
from collections.abc import Callable

from consumer.connection import Session
from consumer.divergence.live import Live
from consumer.divergence.policies import bound_in_force
from consumer.logs import logger
from consumer.management import API_ERRORS, ManagementApi, may_see, quoted
from consumer.topology import REQUESTS

log = logger(__name__)

ASK_EVERY_S = 3.0


class Bound:
    """Notices that somebody changed the bound on the live broker."""

    def __init__(
        self,
        management_url: str | None,
        vhost: str,
        changed: Callable[[int | None], None],
        tasks: asyncio.TaskGroup,
    ) -> None:
        """Take where to ask, and whom to tell: None for a queue without a limit."""
        self._api = None if management_url is None else ManagementApi(management_url)
        self._vhost = vhost
        self._changed = changed
        self._tasks = tasks
        self._told: int | None = None

    async def attach(self, session: Session) -> None:
        """Begin to ask, where there is an API; what a session finds at its start is not ours."""
        if self._api is not None:
            self._tasks.create_task(self._keep_asking(self._api, session))

    async def _keep_asking(self, api: ManagementApi, session: Session) -> None:
        while session.alive:
            try:
                bound = await asyncio.to_thread(self._ask, api)
            except API_ERRORS as error:
                # The last word stands: whether a queue is bounded does not hang on this API.
                log.debug("bound_unknown", problem=str(error))
            else:
                self._tell(bound)
            await asyncio.wait({session.ended}, timeout=ASK_EVERY_S)

    def _ask(self, api: ManagementApi) -> int | None:
        vhost = quoted(self._vhost)
        return bound_in_force(
            Live(
                self._vhost,
                queues=[api.get(f"queues/{vhost}/{quoted(REQUESTS)}")],
                policies=may_see(api, f"policies/{vhost}"),
                operator_policies=may_see(api, f"operator-policies/{vhost}"),
            )
        )

    def _tell(self, bound: int | None) -> None:
        self._changed(bound)
        if self._told not in {None, bound}:
            log.info("bound_changed", before=self._told, now=bound)
        self._told = bound
