"""Environment isolation (V5, property 4): no spelling of a URL leaves the link's environment."""

from __future__ import annotations

import ipaddress

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from venuemesh.transport.environment import Environment, EnvironmentViolation, HostGuard

MAIN, TEST = "api.venue.example", "api.testnet.venue.example"


def guard(environment: Environment, *, allow_mainnet: bool = False) -> HostGuard:
    return HostGuard(
        environment=environment,
        testnet_hosts=frozenset({TEST}),
        mainnet_hosts=frozenset({MAIN, "raw.venue.example:8443"}),
        allow_mainnet=allow_mainnet,
    )


SIMULATOR = guard(Environment.SIMULATOR)
TESTNET = guard(Environment.TESTNET)
MAINNET = guard(Environment.MAINNET, allow_mainnet=True)


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("http://localhost:9000", "http://localhost:9000/"),
        ("ws://LOCALHOST./ws", "ws://localhost:80/ws"),
        ("http://127.0.0.1:8080/info?a=1", "http://127.0.0.1:8080/info?a=1"),
        ("wss://127.9.8.7", "wss://127.9.8.7:443/"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
    ],
)
def test_simulator_reaches_loopback(url: str, canonical: str) -> None:
    """Loopback passes and comes back in canonical form."""
    assert SIMULATOR.check(url).url == canonical


@pytest.mark.parametrize(
    "url",
    [
        f"https://{MAIN}",
        f"https://{TEST}",
        "http://127.0.0.1.nip.example",
        "http://localhost.evil.example",
        "http://0.0.0.0:80",
        "http://[::]:80",
        "http://[::ffff:8.8.8.8]",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://127.1/",
        "http://10.0.0.1",
        f"http://localhost@{MAIN}",
        f"http://localhost:80@{MAIN}",
        f"http://localhost\\@{MAIN}",
        f"http://localhost#@{MAIN}",
        f"http://localhost%2f@{MAIN}",
        "http://[::1%25eth0]/",
        "http://[::1]evil.example/",
        "http://loc\talhost/",
        " http://localhost/",
        "http://ⓛocalhost/",
        "http://localhost:0/",
        "http://localhost:99999/",
        "http://localhost:８０/",
        "http://localhost..",
        "http:///path",
        "//localhost/",
        "localhost:8080",
        "ftp://localhost/",
        "file:///etc/passwd",
        "",
    ],
)
def test_simulator_refuses_everything_else(url: str) -> None:
    """What is not plainly loopback is refused before any socket."""
    with pytest.raises(EnvironmentViolation):
        SIMULATOR.check(url)


@pytest.mark.parametrize("url", [f"https://{TEST}/info", f"wss://{TEST.upper()}.:443/ws"])
def test_testnet_reaches_its_hosts_with_tls(url: str) -> None:
    """Case and a trailing dot do not matter."""
    assert TESTNET.check(url).host == TEST


@pytest.mark.parametrize(
    "url",
    [
        f"https://{MAIN}",
        f"https://{MAIN.upper()}.",
        f"https://{TEST}@{MAIN}/",
        f"https://{TEST}:443@{MAIN}:443/",
        f"https://{TEST}:8443/",
        f"http://{TEST}/",
        f"http://{TEST}:443/",
        f"ws://{TEST}:443/",
        f"https://{TEST}.evil.example/",
        f"https://evil.example/{TEST}",
        f"https://evil.example?{TEST}",
        "https://localhost/",
        "https://127.0.0.1/",
    ],
)
def test_testnet_refuses_mainnet_and_strangers(url: str) -> None:
    """Testnet never reaches mainnet, nor anything that is not listed."""
    with pytest.raises(EnvironmentViolation):
        TESTNET.check(url)


def test_mainnet_without_opt_in_is_refused() -> None:
    """Mainnet needs its own flag even when the host is right."""
    with pytest.raises(EnvironmentViolation, match="opt-in"):
        guard(Environment.MAINNET).check(f"https://{MAIN}")


def test_mainnet_with_opt_in_reaches_only_its_hosts() -> None:
    """The opt-in opens the listed hosts at the listed ports, nothing else."""
    assert MAINNET.check(f"wss://{MAIN}/ws").url == f"wss://{MAIN}:443/ws"
    assert MAINNET.check("https://raw.venue.example:8443").port == 8443
    for url in (f"https://{TEST}", "https://raw.venue.example", "http://localhost", f"http://{MAIN}"):
        with pytest.raises(EnvironmentViolation):
            MAINNET.check(url)


def test_refusal_does_not_repeat_credentials() -> None:
    """User-info may hold a password: the message leaves it out."""
    with pytest.raises(EnvironmentViolation) as caught:
        SIMULATOR.check("http://user:hunter2@localhost/")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("hosts", [{"API.venue.example."}, {"api.venue.example:8443"}])
def test_guard_when_a_host_is_on_both_lists_is_refused(hosts: set[str]) -> None:
    """A host cannot be testnet and mainnet at once, however it is spelled."""
    with pytest.raises(ValueError, match="testnet and mainnet"):
        HostGuard(
            environment=Environment.TESTNET,
            testnet_hosts=frozenset(hosts),
            mainnet_hosts=frozenset({MAIN}),
        )


@pytest.mark.parametrize("entry", ["https://api.x", "api.x:", "a b", "api.x:x", "*.x", ""])
def test_guard_when_a_listed_host_is_malformed_is_refused(entry: str) -> None:
    """A list entry is a host name with an optional port, nothing cleverer."""
    with pytest.raises(ValueError):
        HostGuard(environment=Environment.TESTNET, testnet_hosts=frozenset({entry}))


_TRICKS = "localhost 127.0.0.1 [::1] evil.example @ : :443 :80 / \\ ? # . %2e // user:pw@ ws ://"
_PIECES = st.sampled_from([MAIN, TEST, MAIN.upper(), MAIN + ".", " ", *_TRICKS.split()])


@given(
    st.sampled_from(["http://", "https://", "ws://", "wss://", "HTTPS://", ""]),
    st.lists(_PIECES | st.text(max_size=4), min_size=1, max_size=6),
)
@settings(max_examples=300)
def test_whatever_passes_stays_in_its_environment(scheme: str, pieces: list[str]) -> None:
    """P4: any URL is refused, or leads where its environment allows in every parser's reading."""
    url = scheme + "".join(pieces)
    for own in (SIMULATOR, TESTNET, MAINNET):
        try:
            target = own.check(url)
        except EnvironmentViolation:
            continue
        if own is SIMULATOR:
            assert target.host == "localhost" or ipaddress.ip_address(target.host).is_loopback
        else:
            assert target.host in ({TEST} if own is TESTNET else {MAIN, "raw.venue.example"})
            assert target.scheme in ("https", "wss")
        # The canonical URL is a fixed point and reads the same in the parser of the HTTP client.
        assert own.check(target.url) == target
        read = httpx.URL(target.url)
        assert (read.host, read.port or {"http": 80, "ws": 80}.get(read.scheme, 443)) == (
            target.host,
            target.port,
        )
