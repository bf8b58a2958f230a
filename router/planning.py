"""Makes plans: gathers one snapshot of all venues, lets the pure part decide, says the decision as a plan."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from router.assess import Candidate, assess, refuse_without_book
from router.books import BookFeeds, Seen
from router.facts import AccountFacts, Facts
from router.instructions import check_instruction, rules_of, wish_of
from router.parents import child_key
from router.plans import candidate_message, explicit_plan, no_venue_error, route_plan
from router.policy import PolicyStore
from router.selection import decide
from router.terms import OrderTerms, parse_terms
from router.venues import VenueLink, Venues
from router.views import Refusal, Rules, VenueView
from venuemesh.clock import Clock
from venuemesh.errors import InvalidRequest
from venuemesh.v1 import order_pb2, routing_pb2

Eligibility = Callable[[str], Refusal | None]
"""Why something outside the decision keeps new orders from a venue, such as an open breaker; None when nothing does."""
Room = Callable[[VenueLink, OrderTerms], Decimal | None]
"""Base units by which a position limit lets the position at a venue still move; None when nothing bounds it."""


def always_eligible(venue: str) -> Refusal | None:
    """Nothing keeps orders from any venue."""
    return None


def unbounded(link: VenueLink, terms: OrderTerms) -> Decimal | None:
    """No position limits."""
    return None


class Planner:
    """Says where orders would go.

    Args:
        eligibility, room: what others know about venues and positions.
    """

    def __init__(
        self,
        venues: Venues,
        feeds: BookFeeds,
        facts: AccountFacts,
        policy: PolicyStore,
        clock: Clock,
        *,
        assumed_fee_rate: Decimal,
        eligibility: Eligibility = always_eligible,
        room: Room = unbounded,
    ) -> None:
        self._venues = venues
        self._feeds = feeds
        self._facts = facts
        self._policy = policy
        self._clock = clock
        self._assumed_fee_rate = assumed_fee_rate
        self._eligibility = eligibility
        self._room = room

    def check(self, order: order_pb2.NewOrder, instruction: routing_pb2.RoutingInstruction) -> bool:
        """Refuse an order or instruction that breaks a rule of its own; True when the order names its venue.

        Raises:
            InvalidRequest, VenueNotFound: names the field and the rule.
        """
        explicit = check_instruction(order, instruction, self._venues.names)
        if explicit:
            self._venues.get(order.venue, field="order.venue")
        else:
            parse_terms(order)
        return explicit

    async def plan(
        self,
        order: order_pb2.NewOrder,
        instruction: routing_pb2.RoutingInstruction,
        *,
        without: Sequence[str] = (),
        revision: int = 0,
    ) -> routing_pb2.RoutePlan:
        """Where the order would go now.

        Args:
            without: venues left out beside those of the instruction.
            revision: of the plan, which the keys of children are made of.
        Raises:
            InvalidRequest, VenueNotFound: the order or the instruction breaks a rule.
            MeshError: no venue can take it; says why for each.
        """
        if self.check(order, instruction):
            return await self._explicit_plan(order, instruction)
        terms, policy = parse_terms(order), self._policy.current
        rules = rules_of(instruction, policy, self._assumed_fee_rate)
        rules = dataclasses.replace(rules, excluded=rules.excluded.union(without))
        candidates = await self._assess(terms, self._venues.all(), rules)
        decision = decide(wish_of(order, instruction, policy), terms, candidates)
        if not decision.parts:
            raise no_venue_error(decision.candidates)
        whole = len(decision.parts) == 1

        def key(venue: str) -> str:
            if whole or not order.client_order_id:
                return order.client_order_id
            return child_key(order.account_id, order.client_order_id, venue, revision)

        return route_plan(terms, decision, key, self._clock.now_ns())

    async def _explicit_plan(
        self, order: order_pb2.NewOrder, instruction: routing_pb2.RoutingInstruction
    ) -> routing_pb2.RoutePlan:
        """What is known about the venue named; an order that only its gateway can judge gets no forecast."""
        link = self._venues.get(order.venue, field="order.venue")
        try:
            terms = parse_terms(order)
        except InvalidRequest:
            return explicit_plan(order, None, self._clock.now_ns())
        rules = rules_of(instruction, self._policy.current, self._assumed_fee_rate)
        (candidate,) = await self._assess(terms, [link], dataclasses.replace(rules, excluded=frozenset()))
        if candidate.refusal is None and candidate.alone is not None:
            candidate = dataclasses.replace(candidate, refusal=candidate.alone)
        return explicit_plan(order, candidate_message(terms, candidate), self._clock.now_ns())

    async def _assess(self, terms: OrderTerms, links: Sequence[VenueLink], rules: Rules) -> list[Candidate]:
        views = {link.name: self._view(link, terms) for link in links}
        usable = [link for link in links if refuse_without_book(terms, views[link.name], rules) is None]
        async with asyncio.TaskGroup() as tasks:
            books = tasks.create_task(self._feeds.seen_all(usable, terms.symbol), name="plan/books")
            facts = tasks.create_task(self._facts.of_all(usable, terms.account_id, terms.symbol), name="plan/facts")
        return [assess(terms, _complete(views[link.name], books.result(), facts.result()), rules) for link in links]

    def _view(self, link: VenueLink, terms: OrderTerms) -> VenueView:
        view = link.view(terms.symbol)
        return dataclasses.replace(view, barred=self._eligibility(link.name), room=self._room(link, terms))


def _complete(view: VenueView, seen: Mapping[str, Seen], facts: Mapping[str, Facts]) -> VenueView:
    book, fault = seen.get(view.venue, (None, ""))
    known = facts.get(view.venue, Facts())
    return dataclasses.replace(view, book=book, book_fault=fault, fees=known.fees, funding=known.funding)
