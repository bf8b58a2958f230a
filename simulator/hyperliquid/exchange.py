"""`/exchange`: who signed, may they, is the nonce fresh - then the action. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from simulator.hyperliquid import signing, trading, transfers, twap, wire
from simulator.hyperliquid.replies import BadRequest, Refused, refused
from simulator.hyperliquid.venue import Answer, Venue, unprocessable

MAX_BATCH = 200
STALE_CANCEL_WEIGHT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts: the recovered signer, its master account and the account acted for."""

    signer: str
    master: str
    account: str


def handle(venue: Venue, payload: object, now_ms: int) -> Answer:
    """Answer a decoded `/exchange` body. Business refusals are HTTP 200 with status "err"."""
    try:
        envelope, action = wire.parse_envelope(payload)
        actor = _authenticate(venue, envelope, action, now_ms)
        before = venue.registry.spent(actor.account)
        try:
            _admit(venue, envelope, action, actor, now_ms)
            return Answer(body={"status": "ok", "response": _perform(venue, action, actor, now_ms)})
        except Refused:
            venue.registry.restore(actor.account, before)  # a refused action costs no budget
            if _expired(envelope, now_ms):
                _charge_stale(venue, action, actor)
            raise
    except msgspec.ValidationError as error:
        return unprocessable(str(error))
    except BadRequest as error:
        return unprocessable(str(error))
    except Refused as error:
        return refused(str(error))


def action_type(payload: object) -> str:
    """Type of the action in a decoded body, for fault matching; "?" when it has none."""
    action = payload.get("action") if isinstance(payload, dict) else None
    kind = action.get("type") if isinstance(action, dict) else None
    return kind if isinstance(kind, str) else "?"


def batch_length(payload: object) -> int:
    """Number of elements of a decoded action, 1 when it is no batch."""
    action = payload.get("action") if isinstance(payload, dict) else None
    if isinstance(action, dict):
        for key in ("orders", "cancels", "modifies"):
            if isinstance(action.get(key), list):
                return len(action[key])
    return 1


def _authenticate(venue: Venue, envelope: wire.Envelope, action: wire.Action, now_ms: int) -> Actor:
    kind = str(envelope.action.get("type"))
    try:
        if kind in signing.USER_SIGNED:
            return _user_signer(venue, envelope, action, now_ms)
        return _l1_signer(venue, envelope, now_ms)
    except signing.BadSignature as error:
        raise BadRequest(str(error)) from error


def _user_signer(venue: Venue, envelope: wire.Envelope, action: wire.Action, now_ms: int) -> Actor:
    """User-signed actions apply to the signer's own account; an agent has none."""
    chain = str(envelope.action.get("hyperliquidChain"))
    wanted = venue.settings.network
    if chain not in ("Mainnet", "Testnet") or (wanted != "any" and chain.lower() != wanted):
        raise Refused("Mainnet and testnet require different signature.")
    signature = envelope.signature
    digest = signing.user_signed_digest(envelope.action)
    signer = signing.recover(digest, signature.r, signature.s, signature.v)
    if venue.engine.account(signer) is None and not _welcome(venue, signer, now_ms):
        raise Refused(f"Must deposit before performing actions. User: {signer}")
    inner = getattr(action, "nonce", None) if hasattr(action, "nonce") else getattr(action, "time", None)
    if inner != envelope.nonce:
        raise Refused("Nonce mismatch.")
    return Actor(signer=signer, master=signer, account=signer)


def _l1_signer(venue: Venue, envelope: wire.Envelope, now_ms: int) -> Actor:
    """The account or agent that signed, on whichever network is accepted."""
    vault = None if envelope.vaultAddress is None else _lower(envelope.vaultAddress)
    connection = signing.connection_id(envelope.action, envelope.nonce, vault, envelope.expiresAfter)
    wanted = venue.settings.network
    networks = ("testnet", "mainnet") if wanted == "any" else (wanted,)
    signature = envelope.signature
    candidates = [
        signing.recover(signing.l1_digest(connection, network), signature.r, signature.s, signature.v)
        for network in networks
    ]
    for signer in candidates:
        agent = venue.registry.agent(signer, now_ms)
        if agent is not None:
            return _for_vault(venue, signer, agent.master, vault)
        if venue.engine.account(signer) is not None:
            return _for_vault(venue, signer, signer, vault)
    if _welcome(venue, candidates[0], now_ms):
        return _for_vault(venue, candidates[0], candidates[0], vault)
    raise Refused(f"User or API Wallet {candidates[0]} does not exist.")


def _welcome(venue: Venue, signer: str, now_ms: int) -> bool:
    """Fund an unknown signer when the settings say so."""
    if not venue.settings.auto_fund or signer in venue.registry.agents:
        return False
    venue.fund(signer, "", "USDC", venue.settings.auto_fund, now_ms)
    return True


def _for_vault(venue: Venue, signer: str, master: str, vault: str | None) -> Actor:
    if vault is None or vault == master:
        return Actor(signer=signer, master=master, account=master)
    if not venue.registry.acts_for(master, vault):
        raise Refused(f"Vault not registered: {vault}")
    return Actor(signer=signer, master=master, account=vault)


def _lower(address: str) -> str:
    lowered = address.lower()
    return lowered if lowered.startswith("0x") else "0x" + lowered


def _expired(envelope: wire.Envelope, now_ms: int) -> bool:
    return envelope.expiresAfter is not None and envelope.expiresAfter <= now_ms


def _charge_stale(venue: Venue, action: wire.Action, actor: Actor) -> None:
    """A cancel that came too late costs five times its weight."""
    count, cancel = _requests(action)
    if cancel:
        venue.registry.profile(actor.account).requests += STALE_CANCEL_WEIGHT * count


def _admit(venue: Venue, envelope: wire.Envelope, action: wire.Action, actor: Actor, now_ms: int) -> None:
    """Expiry, nonce, batch size and request budget, in this order.

    Raises:
        Refused: one of them forbids it.
    """
    if _expired(envelope, now_ms):
        raise Refused("Action already expired")
    problem = venue.nonces.use(actor.signer, envelope.nonce, now_ms)
    if problem is not None:
        raise Refused(problem)
    if isinstance(action, wire.AgentSendAsset) and action.nonce != envelope.nonce:
        raise Refused("Nonce mismatch.")
    count, cancel = _requests(action)
    if count > MAX_BATCH:
        raise Refused(f"Signed action over weight limit of {MAX_BATCH}.")
    if isinstance(action, wire.ReserveRequestWeight):
        return  # what buys budget needs none
    volume = venue.volume(actor.account)
    problem = venue.registry.charge(actor.account, count, volume, now_ms, cancel=cancel)
    if problem is not None:
        raise Refused(problem)


def _requests(action: wire.Action) -> tuple[int, bool]:
    """How many address requests an action counts, and whether they are cancels."""
    match action:
        case wire.Order(orders=orders):
            return len(orders), False
        case wire.BatchModify(modifies=modifies):
            return len(modifies), False
        case wire.Cancel(cancels=cancels):
            return len(cancels), True
        case wire.CancelByCloid(cancels=by_cloid):
            return len(by_cloid), True
        case wire.TwapCancel():
            return 1, True
        case _:
            return 1, False


def _perform(venue: Venue, action: wire.Action, actor: Actor, now_ms: int) -> Any:
    """Do it; the `response` part of the answer."""
    account = actor.account
    match action:
        case wire.Order():
            return trading.place(venue, account, action, now_ms)
        case wire.Cancel():
            return trading.cancel(venue, account, action, now_ms)
        case wire.CancelByCloid():
            return trading.cancel_by_cloid(venue, account, action, now_ms)
        case wire.Modify():
            return trading.modify(venue, account, action, now_ms)
        case wire.BatchModify():
            return trading.batch_modify(venue, account, action, now_ms)
        case wire.ScheduleCancel():
            return trading.schedule_cancel(venue, account, action, now_ms)
        case wire.UpdateLeverage():
            return trading.update_leverage(venue, account, action)
        case wire.UpdateIsolatedMargin():
            return trading.update_isolated_margin(venue, account, action, now_ms)
        case wire.TopUpIsolatedOnlyMargin():
            return trading.top_up_isolated_margin(venue, account, action, now_ms)
        case wire.TwapOrder():
            return twap.start(venue, account, action, now_ms)
        case wire.TwapCancel():
            return twap.cancel(venue, account, action, now_ms)
        case _:
            return transfers.perform(venue, action, actor.master, account, now_ms)
