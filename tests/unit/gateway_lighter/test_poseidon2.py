"""The hash: recorded vectors, and what the sponge does at its edges."""

from __future__ import annotations

from gateway_lighter.goldilocks import limbs_of
from gateway_lighter.poseidon2 import hash_elements, permute
from tests.unit.gateway_lighter.support import needs_recordings, vectors


def words(text: str) -> tuple[int, ...]:
    """Words of the vectors' hex."""
    return limbs_of(bytes.fromhex(text))


@needs_recordings
def test_permutation_equals_the_recorded_vectors() -> None:
    """Twelve words in, twelve out."""
    found = vectors("hash_poseidon2_vectors")["permute"]
    assert found
    for vector in found:
        assert tuple(permute(words(vector["input"]))) == words(vector["output"])


@needs_recordings
def test_sponge_equals_the_recorded_vectors() -> None:
    """Any number of words in and out."""
    found = vectors("hash_poseidon2_vectors")["sponge"]
    assert found
    for vector in found:
        assert hash_elements(words(vector["input"]), vector["num_outputs"]) == words(vector["output"])


@needs_recordings
def test_hash_to_quintic_equals_the_recorded_vectors() -> None:
    """Five words are the hash of a transaction."""
    for vector in vectors("hash_poseidon2_vectors")["hash_to_quintic"]:
        assert hash_elements(words(vector["input"]), 5) == words(vector["output"])


@needs_recordings
def test_folding_four_words_equals_the_recorded_vectors() -> None:
    """Grouped orders are folded this way."""
    for vector in vectors("hash_poseidon2_vectors")["hash_n_to_one"]:
        inputs = [words(text) for text in vector["inputs"]]
        folded = inputs[0]
        for each in inputs[1:]:
            folded = hash_elements([*folded, *each], 4)
        assert folded == words(vector["output"])


def test_permutation_of_zeros_is_the_known_one() -> None:
    """One figure that needs no recordings: a changed constant fails here."""
    assert permute([0] * 12)[0] == int.from_bytes(bytes.fromhex("1cc3145a75f1ab63"), "little")


def test_empty_message_is_zeros_and_padding_is_not_free() -> None:
    """Nothing absorbed leaves the state at zero; a trailing zero begins no new block of its own before the ninth."""
    assert hash_elements([], 5) == (0,) * 5
    assert hash_elements([1], 5) == hash_elements([1, 0], 5)
    assert hash_elements([1] * 8, 5) != hash_elements([1] * 8 + [0], 5)
