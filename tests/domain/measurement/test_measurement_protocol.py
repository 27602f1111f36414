from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantfleet_domain.measurement.protocol import Protocol


def test_the_default_is_twenty_blocks_of_fifty() -> None:
    assert Protocol("runtime").block_sizes == (50,) * 20


@settings(deadline=None)
@given(repeat=st.integers(1, 3000), blocks=st.integers(1, 60))
def test_blocks_add_up_to_the_runs_asked_for_and_none_is_empty(repeat: int, blocks: int) -> None:
    sizes = Protocol("runtime", repeat=repeat, blocks=blocks).block_sizes
    assert sum(sizes) == repeat
    assert len(sizes) == min(repeat, blocks)
    assert min(sizes) >= 1
    assert max(sizes) == -(-repeat // len(sizes))
    assert max(sizes) - min(sizes) <= 1


def test_two_variants_alternate_so_that_a_drift_cancels() -> None:
    turns = Protocol("runtime", repeat=4, blocks=4).turns(["fp32", "int8"])
    assert [turn.variant for turn in turns] == ["fp32", "int8", "int8", "fp32", "int8", "fp32", "fp32", "int8"]
    assert [turn.block for turn in turns] == [0, 0, 1, 1, 2, 2, 3, 3]


@settings(deadline=None)
@given(variants=st.integers(1, 6), rounds=st.integers(1, 5))
def test_every_variant_goes_first_equally_often(variants: int, rounds: int) -> None:
    names = [f"v{i}" for i in range(variants)]
    blocks = variants * rounds
    turns = Protocol("runtime", repeat=blocks, blocks=blocks).turns(names)
    firsts = Counter(turns[block * variants].variant for block in range(blocks))
    assert firsts == dict.fromkeys(names, rounds)
    for block in range(blocks):
        assert {turn.variant for turn in turns if turn.block == block} == set(names)


def test_the_same_variant_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="different"):
        Protocol("runtime").turns(["int8", "int8"])


@pytest.mark.parametrize(("field", "value"), [("repeat", 0), ("blocks", 0), ("threads", 0), ("warmup", -1)])
def test_a_count_that_cannot_be_is_an_error(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field):
        Protocol(mode="runtime", **{field: value})


def test_a_mode_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="e2e"):
        Protocol("e2e")
