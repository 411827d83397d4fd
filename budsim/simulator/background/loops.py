"""The background loops beside requests: run unfinished runs, and delete old ones.

Any number of replicas may run these loops on one database: a lease says which replica works on a
run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from budsim.commons.errors import BudsimError, Unavailable
from budsim.simulator.run_steps import log_context
from budsim.simulator.services import Simulations
from budsim.simulator.signals import wait
from budsim.simulator.storage.records import Run
from budsim.simulator.storage.repository import Repository

DELETING_EVERY_S = 3600.0
SECONDS_PER_DAY = 86400.0

log = structlog.get_logger()


class RunLoop:
    """Carries out runs that nobody works on: new ones, and those of a replica that died.

    Parameters
    ----------
    simulations : Simulations
        The steps of a run.
    slots : int
        Runs carried out at a time by this replica.
    poll_s : float
        Longest wait before looking for runs again, s.
    """

    def __init__(self, simulations: Simulations, *, slots: int, poll_s: float) -> None:
        self._simulations, self._slots, self._poll_s = simulations, slots, poll_s
        self._working: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Look for runs until cancelled; then give back those that are not finished."""
        try:
            while True:
                claimed = await self._claim()
                for run in claimed:
                    task = asyncio.create_task(self._carry_out(run))
                    self._working.add(task)
                    task.add_done_callback(self._done)
                if not claimed:
                    await wait(self._simulations.signals.work, self._poll_s)
        finally:
            await self._give_back()

    async def _claim(self) -> list[Run]:
        free = self._slots - len(self._working)
        if free <= 0:
            return []
        simulations = self._simulations

        def claim() -> list[Run]:
            """Claim at most as many runs as this process has free slots."""
            return simulations.repository.claim(
                simulations.owner,
                now_s=simulations.clock(),
                lease_s=simulations.options.lease_s,
                limit=free,
            )

        try:
            return await asyncio.to_thread(claim)
        except Unavailable as error:
            log.warning("no runs claimed", reason=str(error))
            return []

    async def _carry_out(self, run: Run) -> None:
        with log_context(run):
            try:
                done = await self._simulations.steps.carry_out(run)
            except BudsimError as error:
                log.info("run ended early", reason=str(error))
            except Exception:
                log.exception("run failed")
            else:
                log.info("run ended", status=done.status, message=done.message)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        self._simulations.signals.work.set()

    async def _give_back(self) -> None:
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        # Not in a thread: the event loop is ending. Without a database the leases just expire.
        with suppress(Unavailable):
            self._simulations.repository.release(
                self._simulations.owner, now_s=self._simulations.clock()
            )


async def delete_old_runs(
    repository: Repository, *, retention_days: float, clock: Callable[[], float]
) -> None:
    """Delete finished runs older than the retention, every hour until cancelled."""
    while True:
        deleted = batch = 0
        try:
            while batch := await asyncio.to_thread(
                repository.purge, clock() - retention_days * SECONDS_PER_DAY
            ):
                deleted += batch
        except Unavailable as error:
            log.warning("old runs not deleted", reason=str(error))
        log.info("old runs deleted", runs=deleted)
        await asyncio.sleep(DELETING_EVERY_S)


async def supervise(loop: Callable[[], Awaitable[None]]) -> None:
    """Run a loop, and run it again when an error ends it: work is late then, but not lost."""
    while True:
        try:
            await loop()
        except Exception:
            log.exception("a background loop failed")
            await asyncio.sleep(1.0)
