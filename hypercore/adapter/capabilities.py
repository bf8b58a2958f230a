"""What this gateway offers of Hyperliquid today; the one record validation, routing and tests go by. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hypercore.actions import MAX_BATCH
from hypercore.adapter import twaps
from venuemesh.gateway.order_wire import duration
from venuemesh.v1 import order_pb2, venue_pb2

TRIGGERS: Final = (
    order_pb2.ORDER_TYPE_STOP_MARKET,
    order_pb2.ORDER_TYPE_STOP_LIMIT,
    order_pb2.ORDER_TYPE_TAKE_PROFIT_MARKET,
    order_pb2.ORDER_TYPE_TAKE_PROFIT_LIMIT,
)
BOOK_DEPTH: Final = 20
FAST_BOOK_DEPTH: Final = 5


def capabilities(
    *,
    settle_delay_s: float,
    book_stale_after_s: float,
    fast_books: bool,
    collateral_sections: Sequence[str] = (),
    spot: bool = False,
    scheduled_cancel: bool = False,
) -> venue_pb2.VenueCapabilities:
    """The record; only what works is in it.

    A market order is an immediate-or-cancel limit at the worst price accepted, the venue has no other. Post-only is
    the venue's ALO. Fill-or-kill and good-till-date do not exist there, and an order that waits for a trigger carries
    no time in force: it waits until cancelled; then a market order is immediate and a limit rests.

    Args:
        scheduled_cancel: use the venue's dead-man's switch. It is one per account and cancels on every dex: a gateway
            of a builder dex must not set it, the orders of the main one would go too.
    """
    reduce_only = order_pb2.EXECUTION_INSTRUCTION_REDUCE_ONLY
    return venue_pb2.VenueCapabilities(
        order_types=[
            venue_pb2.OrderTypeSupport(
                order_type=order_pb2.ORDER_TYPE_MARKET,
                times_in_force=[order_pb2.TIME_IN_FORCE_IOC],
                instructions=[reduce_only],
            ),
            venue_pb2.OrderTypeSupport(
                order_type=order_pb2.ORDER_TYPE_LIMIT,
                times_in_force=[order_pb2.TIME_IN_FORCE_GTC, order_pb2.TIME_IN_FORCE_IOC],
                instructions=[order_pb2.EXECUTION_INSTRUCTION_POST_ONLY, reduce_only],
            ),
            *(
                venue_pb2.OrderTypeSupport(
                    order_type=kind, times_in_force=[order_pb2.TIME_IN_FORCE_GTC], instructions=[reduce_only]
                )
                for kind in (*TRIGGERS, order_pb2.ORDER_TYPE_TWAP)
            ),
        ],
        amend_mode=venue_pb2.AMEND_MODE_CANCEL_REPLACE,
        max_batch_orders=MAX_BATCH,
        max_batch_cancels=MAX_BATCH,
        cancel_all=venue_pb2.PROVISION_EMULATED,
        dead_mans_switch=venue_pb2.PROVISION_NATIVE if scheduled_cancel else venue_pb2.PROVISION_EMULATED,
        dead_mans_switch_cancels_stops=scheduled_cancel,
        brackets=venue_pb2.PROVISION_NATIVE,
        twap=venue_pb2.PROVISION_NATIVE,
        twap_randomize=True,
        min_twap_duration=duration(twaps.MIN_MINUTES * 60),
        max_twap_duration=duration(twaps.MAX_MINUTES * 60),
        query_by_client_order_id=True,
        expires_after=True,
        settle_delay=duration(settle_delay_s),
        book=venue_pb2.BookSupport(
            max_depth=FAST_BOOK_DEPTH if fast_books else BOOK_DEPTH,
            sequenced=False,
            snapshots_only=True,
            stale_after=duration(book_stale_after_s),
        ),
        private_stream_replay=False,
        isolated_margin=True,
        spot=spot,
        perpetuals=True,
        collateral_sections=collateral_sections,
        trading_hours=venue_pb2.TRADING_HOURS_CONTINUOUS,
    )
