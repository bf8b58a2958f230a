"""Who may act for whom: agents, sub-accounts, builders, modes, request budgets. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from simulator.hyperliquid.nonces import DAY_MS

AGENT_DAYS = 90
AGENT_MAX_DAYS = 180
NAMED_AGENTS = 3
FREE_INTERVAL_MS = 10_000
ZERO_ADDRESS = "0x" + "0" * 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A key that signs for `master`; `name` is empty for the unnamed one."""

    address: str
    master: str
    name: str
    valid_until_ms: int | None


@dataclass(slots=True, kw_only=True)
class Profile:
    """What the venue knows of one account besides its money."""

    master: str | None = None  # set for a sub-account
    leader: str | None = None  # set for a vault
    sub_name: str = ""
    agents: dict[str, Agent] = field(default_factory=dict)  # by name
    builders: dict[str, int] = field(default_factory=dict)  # address -> tenths of a basis point
    abstraction: str = "default"
    referrer: str | None = None
    requests: int = 0
    last_free_ms: int = 0
    reserved: int = 0
    cancel_triggers: list[int] = field(default_factory=list)


class Registry:
    """Profiles by account address and agents by their own address; all addresses lower case."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self.profiles: dict[str, Profile] = {}
        self.agents: dict[str, Agent] = {}

    def profile(self, address: str) -> Profile:
        """Profile of an account, empty when first asked for."""
        return self.profiles.setdefault(address, Profile())

    def agent(self, address: str, now_ms: int) -> Agent | None:
        """A valid agent, None when unknown or expired."""
        found = self.agents.get(address)
        if found is None or (found.valid_until_ms is not None and found.valid_until_ms <= now_ms):
            return None
        return found

    def acts_for(self, master: str, address: str) -> bool:
        """Whether an account trades for another one: its sub-account, or a vault it leads."""
        profile = self.profiles.get(address)
        return profile is not None and master in (profile.master, profile.leader)

    def approve_agent(self, master: str, address: str, raw_name: str, now_ms: int) -> str | None:
        """Register (or, with the zero address, revoke) an agent; the venue's error text or None."""
        name, _, until = raw_name.partition(" valid_until ")
        name = name.strip()
        profile = self.profile(master)
        if address == ZERO_ADDRESS:
            self._drop(profile.agents.pop(name, None))
            return None
        valid_until = now_ms + AGENT_DAYS * DAY_MS
        if until:
            if not until.isdigit():
                return "Invalid agent name"
            valid_until = min(int(until), now_ms + AGENT_MAX_DAYS * DAY_MS)
        if valid_until <= now_ms:
            return "Agent valid_until already expired."
        holder = self.agents.get(address)
        if (holder is not None and (holder.master, holder.name) != (master, name)) or address in self.profiles:
            return "Extra agent already used."
        named = [key for key in profile.agents if key and key != name]
        if name and len(named) >= NAMED_AGENTS:
            return f"Too many extra agents for cumulative volume traded. Current limit is {NAMED_AGENTS}"
        self._drop(profile.agents.get(name))
        agent = Agent(address=address, master=master, name=name, valid_until_ms=valid_until)
        profile.agents[name] = self.agents[address] = agent
        return None

    def _drop(self, agent: Agent | None) -> None:
        if agent is not None:
            self.agents.pop(agent.address, None)

    def sub_accounts(self, master: str) -> list[tuple[str, Profile]]:
        """Sub-accounts of a master with their addresses, in order of creation."""
        return [(name, profile) for name, profile in self.profiles.items() if profile.master == master]

    def cap(self, address: str, volume: Decimal) -> int:
        """Lifetime request budget: the start budget plus one per dollar traded."""
        return self._budget + int(volume) + self.profile(address).reserved

    def spent(self, address: str) -> tuple[int, int]:
        """What `restore` needs to undo a charge."""
        profile = self.profile(address)
        return profile.requests, profile.last_free_ms

    def restore(self, address: str, spent: tuple[int, int]) -> None:
        """Undo the charges made since `spent` was read."""
        profile = self.profile(address)
        profile.requests, profile.last_free_ms = spent

    def charge(self, address: str, count: int, volume: Decimal, now_ms: int, *, cancel: bool) -> str | None:
        """Count `count` requests against the budget; the venue's refusal when spent, else None.

        Cancels have a larger budget. A spent budget still lets a single request through every ten seconds;
        refusals do not restart that wait.
        """
        profile = self.profile(address)
        cap = self.cap(address, volume)
        limit = min(cap + 100_000, 2 * cap) if cancel else cap
        if profile.requests + count > limit:
            if count > 1 or now_ms - profile.last_free_ms < FREE_INTERVAL_MS:
                return (
                    f"Too many cumulative requests sent ({profile.requests + count} > {limit}) for "
                    f"cumulative volume traded ${volume.quantize(Decimal('0.01'))}. Place taker orders to free up "
                    "1 request per USDC traded."
                )
            profile.last_free_ms = now_ms
        profile.requests += count
        return None
