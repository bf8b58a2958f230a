"""One run: rounds of load under attack, each followed by calm and a comparison of everything with everything."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import grpc
import grpc.aio

from deploy.local.health import NotServing
from tests.soak.chaos import Chaos, Tally
from tests.soak.follower import ACCOUNT_EVENTS, REPORTS, Follower
from tests.soak.ledger import Cancel, Claim, differences
from tests.soak.load import Book, Client, new_order
from tests.soak.mesh import GATEWAYS, SoakAccount, SoakMesh, soak_mesh
from tests.soak.truth import our_truth, reading_bus, venue_truth
from venuemesh.bus import Bus
from venuemesh.errors import JournalUnavailable
from venuemesh.v1 import order_service_pb2 as wire
from venuemesh.v1 import order_service_pb2_grpc as stubs

CLIENTS_PER_ACCOUNT = 2
LONGEST_ATTACK_S = 60.0
SETTLE_TIMEOUT_S = 90.0
COMPARE_PAUSE_S = 0.25
REPEATED = 15
"""Keys of each account that are submitted once more when all is settled."""
CALL_S = 20.0

FAULTS_OF_OURS = frozenset(
    {
        "account_log_has_gaps",
        "account_operation_failed",
        "amend_order_failed",
        "batch_element_failed",
        "cancel_order_failed",
        "flush_failed",
        "place_order_failed",
        "reconcile_broke",
        "resolve_failed",
        "trailers_failed",
    }
)
"""Log lines that say that our own code failed, whatever the outside did."""


@dataclass(slots=True)
class Report:
    """What a run did and found."""

    seed: int
    tally: Tally = field(default_factory=Tally)
    answers: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    orders: int = 0
    venue_orders: int = 0
    fills: int = 0
    events: int = 0
    rounds: int = 0
    meshes: int = 0
    connections: int = 0
    drained: int = 0
    failed_starts: int = 0
    settled_s: float = 0.0
    violations: list[str] = field(default_factory=list)

    def count(self, word: str) -> int:
        """Violations of a kind such as LOST."""
        return sum(any(part.startswith(word) for part in text.split(": ")) for text in self.violations)


class Run:
    """Runs over one mesh.

    Args:
        seed: decides the blows, their order, and what the clients want; the interleaving it meets is the machine's.
    """

    def __init__(self, mesh: SoakMesh, report: Report, *, seed: str) -> None:
        self._mesh = mesh
        self._report = report
        self._seed = seed
        self._book = Book()
        self._round = 0
        self._totals: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._followers = [
            Follower(mesh, account, service, kind, Random(f"{seed}/{kind}/{service}"))
            for account in mesh.accounts
            for service, kind in (
                (f"gateway_{account.venue}", REPORTS),
                (f"gateway_{account.venue}", ACCOUNT_EVENTS),
                ("router", REPORTS),
            )
        ]

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Streams are read while the block runs."""
        tasks = [asyncio.create_task(one.run(), name=f"follow-{one.name}") for one in self._followers]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            broken = [one for one in results if isinstance(one, Exception)]
            if broken:
                raise broken[0]

    async def round(self, attack_s: float, *, least_kills: int = 0) -> bool:
        """Load under attack, then the comparison; whether all is well.

        Args:
            attack_s: how long, and on a slow machine longer: until `least_kills` processes were killed.
        """
        self._round += 1
        self._mesh.watch.note(f"round {self._round}")
        await self._attack(attack_s, least_kills)
        began_s = time.monotonic()
        self._mesh.watch.note("calm")
        found = await self._settle()
        self._report.settled_s = max(self._report.settled_s, time.monotonic() - began_s)
        self._mesh.watch.note(f"compared: {len(found)} differences")
        self._report.rounds += 1
        self._report.violations += [f"{self._seed} round {self._round}: {text}" for text in found]
        return not found

    async def _attack(self, seconds: float, least_kills: int) -> None:
        kills = self._report.tally.kills
        enough = kills.total() + least_kills
        chaos = Chaos(self._mesh, self._report.tally, Random(f"{self._seed}/{self._round}/chaos"))
        no_more_orders, no_more_blows = asyncio.Event(), asyncio.Event()
        clients = [
            Client(self._mesh, account, self._book, name=f"r{self._round}c{number}", seed=f"{self._seed}/{self._round}")
            for account in self._mesh.accounts
            for number in range(CLIENTS_PER_ACCOUNT)
        ]
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(client.run(no_more_orders), name="client")
            attack = tasks.create_task(chaos.run(no_more_blows), name="chaos")
            await asyncio.sleep(seconds)
            until_s = time.monotonic() + LONGEST_ATTACK_S
            while kills.total() < enough and time.monotonic() < until_s:
                await asyncio.sleep(COMPARE_PAUSE_S)
                chaos.count_points()
            no_more_blows.set()
            await attack
            no_more_orders.set()
        await chaos.calm()
        await self._wait_up()
        chaos.count_points()

    async def _wait_up(self) -> None:
        try:
            await self._mesh.wait_up()
        except NotServing as error:
            self._report.violations.append(f"{self._seed} round {self._round}: NOT UP {error}")

    async def _settle(self) -> list[str]:
        """Everything that still differs when there was time enough for it to agree."""
        async with reading_bus(self._mesh) as bus:
            found = await self._compare_until_equal(bus)
            if not found:
                found = await self._repeat_keys()
                await self._cancel_everything()
                found += await self._compare_until_equal(bus)
        return [*found, *self._book.wrong, *self._deaths(), *self._own_faults()]

    async def _compare_until_equal(self, bus: Bus) -> list[str]:
        found = ["never compared"]
        until_s = time.monotonic() + SETTLE_TIMEOUT_S
        while found and time.monotonic() < until_s:
            try:
                found = await self._compare(bus)
            except (grpc.aio.AioRpcError, JournalUnavailable) as error:
                found = [f"cannot compare: {error!r}"]
            if found:
                await asyncio.sleep(COMPARE_PAUSE_S)
        return found

    async def _compare(self, bus: Bus) -> list[str]:
        found: list[str] = []
        totals = Counter[str]()
        outcomes = Counter[str]()
        for account in self._mesh.accounts:
            venue = await venue_truth(self._mesh, account)
            ours, events = await our_truth(self._mesh, bus, account)
            where = f"{account.venue}/{account.account_id}"
            found += [f"{where}: {text}" for text in differences(self._book.of(account), venue, ours)]
            for follower in self._followers:
                if follower.account is account:
                    found += follower.differences(events)
            totals.update(orders=len(ours.orders), venue_orders=len(venue.orders))
            totals.update(fills=len(venue.fills), events=len(events))
            outcomes.update(order.status for order in ours.orders)
        self._totals, self._outcomes = totals, outcomes
        return found

    async def _repeat_keys(self) -> list[str]:
        """A repeated key gives its first result, which now is known, and makes no second order."""
        found: list[str] = []
        random = Random(f"{self._seed}/{self._round}/repeat")
        for account in self._mesh.accounts:
            told = [intent for intent in self._book.of(account) if {Claim.LIVE, Claim.DEAD} & set(intent.claims)]
            for intent in random.sample(told, min(REPEATED, len(told))):
                stub = self._orders(random.choice(("router", f"gateway_{account.venue}")))
                answer = await stub.SubmitOrder(wire.SubmitOrderRequest(order=new_order(intent)), timeout=CALL_S)
                live = Claim.LIVE in intent.claims
                wanted = wire.SUBMIT_OUTCOME_ACKNOWLEDGED if live else wire.SUBMIT_OUTCOME_REJECTED
                if not answer.replayed or answer.outcome != wanted:
                    word = wire.SubmitOutcome.Name(answer.outcome)
                    found.append(f"WRONG CLAIM {intent.key}: first {intent.claims}, repeated {word}")
        return found

    async def _cancel_everything(self) -> None:
        """So that the next round begins with few open orders; what it does is compared as all else."""
        for account in self._mesh.accounts:
            for intent in self._book.of(account):
                if intent.cancel is Cancel.NEVER:
                    intent.cancel = Cancel.TRIED
            request = wire.CancelAllOrdersRequest(account_id=account.account_id, venue=account.venue)
            await self._orders("router").CancelAllOrders(request, timeout=CALL_S)

    def _orders(self, service: str) -> Any:
        return stubs.OrderServiceStub(self._mesh.channel(service))

    def _deaths(self) -> list[str]:
        """Ends of processes that nobody asked for."""
        return [f"UNASKED {text}" for text in self._mesh.take_unasked_ends()]

    def _own_faults(self) -> list[str]:
        warnings = self._mesh.supervisor.warnings()
        return [
            f"FAULT OF OURS {service} logged {name} {count} times"
            for service, names in warnings.items()
            for name, count in names.items()
            if name in FAULTS_OF_OURS
        ]

    def finish(self) -> None:
        """Add what this mesh did to the report."""
        report = self._report
        report.meshes += 1
        report.answers += self._book.answers
        report.outcomes += self._outcomes
        report.orders += self._totals["orders"]
        report.venue_orders += self._totals["venue_orders"]
        report.fills += self._totals["fills"]
        report.events += self._totals["events"]
        report.connections += sum(follower.connections for follower in self._followers)
        report.drained += self._mesh.drained
        report.failed_starts += self._mesh.watch.failed_starts
        for service, names in self._mesh.supervisor.warnings().items():
            report.warnings.update({f"{service} {name}": count for name, count in names.items()})

    def write_evidence(self, folder: Path) -> None:
        """What the clients wanted and were told, and all that happened, beside the logs and the broker's files."""
        (folder / "happened.log").write_text("\n".join(self._mesh.watch.messages) + "\n")
        (folder / "intents.log").write_text("".join(f"{intent}\n" for intent in self._book.all()))
        (folder / "violations.log").write_text("\n".join(self._report.violations) + "\n")


async def run_mesh(
    folder: Path,
    report: Report,
    *,
    seed: str,
    rounds: int,
    attack_s: float,
    until_s: float = math.inf,
    least_kills: int = 0,
) -> bool:
    """Rounds over one mesh of its own, until one fails or time is over; whether all is well.

    Args:
        folder: logs and the broker's files; on a failure also what happened.
        until_s: on the monotonic clock; no round begins later.
    """
    async with soak_mesh(folder) as mesh:
        run = Run(mesh, report, seed=seed)
        well = True
        async with run.following():
            for _ in range(rounds):
                well = await run.round(attack_s, least_kills=least_kills)
                if not well or time.monotonic() >= until_s:
                    break
        run.finish()
        if not well:
            run.write_evidence(folder)
    return well


__all__ = ["GATEWAYS", "Report", "Run", "SoakAccount", "run_mesh"]
