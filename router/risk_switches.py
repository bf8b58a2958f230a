"""A dead-man's switch over several venues: each gateway keeps its own, and its id names them all.

The id is `venue+venue/account`, so any router can renew or disarm it: nothing is stored here. Each gateway fires by
itself, also when the router and its caller are gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from router.calls import Context, submit
from router.facade import Facade
from router.fanout import NOT_HERE, Answers, ask_all
from router.venues import VenueLink
from venuemesh.errors import AccountNotFound, GatewayUnavailable, InvalidRequest, NotFound, Reason, Sent
from venuemesh.v1 import risk_pb2, risk_service_pb2

JOIN = "+"


def switch_id_of(venues: Sequence[str], account_id: str) -> str:
    """The id of a switch over these venues."""
    return f"{JOIN.join(sorted(venues))}/{account_id}"


class Switches:
    """Arms, renews and disarms at every venue of a switch at once."""

    def __init__(self, facade: Facade) -> None:
        self._facade = facade

    async def arm(
        self, request: risk_service_pb2.ArmDeadMansSwitchRequest, context: Context
    ) -> risk_pb2.DeadMansSwitch:
        """Arm it at the venues named, or at all that serve the account.

        A venue where it could not be armed is in the answer with the reason and is not part of the id.

        Raises:
            MeshError: it is armed nowhere.
        """
        names = list(dict.fromkeys(request.venues)) or [link.name for link in self._facade.venues.all()]
        links = [self._facade.link(name, field="venues") for name in names]
        if len(links) == 1 and request.venues:
            return (await self._arm_at(links[0], request, context)).dead_mans_switch
        answers = await ask_all(links, lambda link: self._arm_at(link, request), skip_down=False)
        if not answers.given:
            answers.require_any()
            raise AccountNotFound(
                f"account_id: no venue serves {request.account_id!r}",
                field="account_id",
                metadata={"account_id": request.account_id},
            )
        # A venue that does not serve the account is only missed by a caller who named it.
        missed = {
            venue: error for venue, error in answers.failed.items() if request.venues or error.reason not in NOT_HERE
        }
        whole = _joined([one.dead_mans_switch for one in answers.given.values()], request.account_id)
        for venue, error in missed.items():
            whole.venues.add(venue=venue, message=f"not armed: {error.reason}: {error.message}")
        return whole

    async def _arm_at(
        self, link: VenueLink, request: risk_service_pb2.ArmDeadMansSwitchRequest, context: Context = None
    ) -> risk_service_pb2.ArmDeadMansSwitchResponse:
        asked = risk_service_pb2.ArmDeadMansSwitchRequest()
        asked.CopyFrom(request)
        asked.venues[:] = [link.name]
        answer: risk_service_pb2.ArmDeadMansSwitchResponse = await submit(
            link, link.risk.ArmDeadMansSwitch, asked, context
        )
        return answer

    async def renew(self, request: risk_service_pb2.RenewLeaseRequest) -> risk_pb2.DeadMansSwitch:
        """Move its deadline on everywhere.

        Raises:
            MeshError: it was not renewed at some venue, which is named: call again.
        """

        async def ask(link: VenueLink, switch_id: str) -> risk_pb2.DeadMansSwitch:
            asked = risk_service_pb2.RenewLeaseRequest(switch_id=switch_id)
            answer: risk_service_pb2.RenewLeaseResponse = await submit(link, link.risk.RenewLease, asked)
            return answer.dead_mans_switch

        account_id, answers = await self._everywhere(request.switch_id, ask)
        self._require_all(answers, "renewed")
        return _joined(list(answers.given.values()), account_id)

    async def disarm(self, request: risk_service_pb2.DisarmDeadMansSwitchRequest) -> bool:
        """Take it away everywhere; whether it was armed anywhere.

        Raises:
            MeshError: some venue could not be told, and fires unless it is: call again.
        """

        async def ask(link: VenueLink, switch_id: str) -> bool:
            asked = risk_service_pb2.DisarmDeadMansSwitchRequest(switch_id=switch_id)
            answer: risk_service_pb2.DisarmDeadMansSwitchResponse = await submit(
                link, link.risk.DisarmDeadMansSwitch, asked
            )
            return answer.was_armed

        _, answers = await self._everywhere(request.switch_id, ask)
        self._require_all(answers, "disarmed")
        return any(answers.given.values())

    async def _everywhere(
        self, switch_id: str, ask: Callable[[VenueLink, str], Awaitable[Any]]
    ) -> tuple[str, Answers[Any]]:
        venues, separator, account_id = switch_id.partition("/")
        if not switch_id:
            raise InvalidRequest("switch_id: is required", reason=Reason.REQUIRED_FIELD_MISSING, field="switch_id")
        if not separator or not account_id:
            raise NotFound(
                f"switch_id: {switch_id[:80]!r} is no switch", reason=Reason.ACCOUNT_NOT_FOUND, field="switch_id"
            )
        links = [self._facade.link(name, field="switch_id") for name in venues.split(JOIN)]
        answers = await ask_all(links, lambda link: ask(link, switch_id_of([link.name], account_id)), skip_down=False)
        return account_id, answers

    @staticmethod
    def _require_all(answers: Answers[Any], done: str) -> None:
        if not answers.failed:
            return
        if len(answers.failed) == 1 and not answers.given:
            raise next(iter(answers.failed.values()))
        text = "; ".join(f"{venue}: {error.reason}: {error.message}" for venue, error in answers.failed.items())
        worst = Sent.NO if all(error.sent is Sent.NO for error in answers.failed.values()) else Sent.MAYBE
        reasons = {error.reason for error in answers.failed.values()}
        kinds = {type(error) for error in answers.failed.values()}
        kind = next(iter(kinds)) if len(kinds) == 1 else GatewayUnavailable
        raise kind(
            f"not {done} everywhere, call again; {text}",
            reason=next(iter(reasons)) if len(reasons) == 1 else None,
            sent=Sent.MAYBE if answers.given else worst,
            field="switch_id",
            metadata=answers.reasons(),
        )


def _joined(parts: Sequence[risk_pb2.DeadMansSwitch], account_id: str) -> risk_pb2.DeadMansSwitch:
    """One switch of those at the venues: it fires first where its deadline is nearest."""
    venues = sorted((row for part in parts for row in part.venues), key=lambda row: row.venue)
    first = min(parts, key=lambda part: part.deadline.ToNanoseconds())
    return risk_pb2.DeadMansSwitch(
        switch_id=switch_id_of([row.venue for row in venues], account_id),
        account_id=account_id,
        deadline=first.deadline,
        venues=venues,
        lease=first.lease,
        state=first.state,
    )
