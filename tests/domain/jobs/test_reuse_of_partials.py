"""What earlier jobs counted is used again: the right samples, each once, and not one bit of the table is another."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantfleet_domain.calibration.auto import candidate_tables, part_of
from quantfleet_domain.calibration.graph import CalibrationGraph, NumericsClass, WeightTensor
from quantfleet_domain.calibration.partial import Partial, PartialAccumulator, merge_partials
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.reuse import Kept, Renumbering, recall

TENSORS = ("x", "y")
NUMERICS = NumericsClass("onnxruntime-cpu", "1.0", "x86_64/avx2", "m" * 64, "r" * 64, "none", 1)
GRAPH = CalibrationGraph((), (), TENSORS, (WeightTensor("w", 0, (1.0,)),), {}, {}, (), "r" * 64)
CONTENTS = st.integers(0, 11)
"""Few contents, so that a manifest often has one twice."""


def sample(content: int) -> Sample:
    return Sample(f"{content}.bin", hashlib.sha256(f"sample {content}".encode()).hexdigest(), 8)


def manifest_of(contents: list[int]) -> Manifest:
    return Manifest(tuple(map(sample, contents)))


def count(manifest: Manifest, indices: list[int]) -> Partial:
    """A worker's partial: what a sample's activations are follows from its content."""
    counted = PartialAccumulator(NUMERICS, TENSORS)
    for index in indices:
        rng = np.random.default_rng(int(manifest.samples[index].digest[:8], 16))
        values = rng.normal(scale=1 + rng.integers(4), size=(2, 9)).astype(np.float32)
        counted.observe(index, str(index), dict(zip(TENSORS, values, strict=True)))
    return counted.partial()


def by_part(manifest: Manifest, indices: list[int]) -> list[Partial]:
    parts: dict[int, list[int]] = {}
    for index in indices:
        parts.setdefault(part_of(manifest.samples[index].digest), []).append(index)
    return [count(manifest, found) for found in parts.values()]


@st.composite
def kept_partials(draw: st.DrawFn) -> list[Kept]:
    """What some earlier jobs left, cut into shards any way."""
    kept = []
    for _ in range(draw(st.integers(0, 4))):
        manifest = manifest_of(draw(st.lists(CONTENTS, min_size=1, max_size=8)))
        dealt = [draw(st.integers(0, 2)) for _ in manifest.samples]
        for shard in range(3):
            for partial in by_part(manifest, [i for i, mine in enumerate(dealt) if mine == shard]):
                kept.append(Kept(hashlib.sha256(partial.encode()).hexdigest(), manifest, partial))
    return kept


WANTED = st.lists(CONTENTS, min_size=1, max_size=16).map(manifest_of)


def digests(manifest: Manifest) -> Counter[str]:
    return Counter(item.digest for item in manifest.samples)


@settings(max_examples=60, deadline=None)
@given(WANTED, kept_partials())
def test_what_is_chosen_and_what_is_missing_make_up_the_manifest(wanted: Manifest, kept: list[Kept]) -> None:
    chosen, missing = recall(wanted, kept)
    total = digests(missing)
    for item in chosen:
        total += item.digests()
    assert total == digests(wanted)
    assert all(any(item is other for other in kept) for item in chosen)


@settings(max_examples=50, deadline=None)
@given(WANTED, kept_partials())
def test_nothing_that_would_still_fit_is_left_aside(wanted: Manifest, kept: list[Kept]) -> None:
    chosen, missing = recall(wanted, kept)
    for item in kept:
        if not any(item is other for other in chosen):
            assert not item.digests() <= digests(missing)


@settings(max_examples=50, deadline=None)
@given(st.data(), WANTED, kept_partials())
def test_the_choice_does_not_depend_on_the_order_of_what_is_offered(
    data: st.DataObject, wanted: Manifest, kept: list[Kept]
) -> None:
    unique = list({item.name: item for item in kept}.values())
    shuffled = data.draw(st.permutations(unique))
    one, other = recall(wanted, unique), recall(wanted, shuffled)
    assert [item.name for item in one[0]] == [item.name for item in other[0]]
    assert one[1] == other[1]


@settings(max_examples=20, deadline=None)
@given(WANTED, kept_partials(), st.integers(1, 4))
def test_every_index_of_the_manifest_is_given_once_and_no_bit_of_a_table_is_another(
    wanted: Manifest, kept: list[Kept], shards: int
) -> None:
    chosen, missing = recall(wanted, kept)
    pieces = [(item.manifest, item.partial) for item in chosen]
    for shard in range(shards):
        indices = list(range(shard, len(missing.samples), shards))
        pieces += [(missing, partial) for partial in by_part(missing, indices)]
    numbering = Renumbering(wanted)
    recalled = [numbering.take(partial, manifest) for manifest, partial in pieces]
    assert sorted(i for partial in recalled for i in partial.samples) == list(range(len(wanted.samples)))

    fresh = by_part(wanted, list(range(len(wanted.samples))))
    parts = [merge_partials(found) for found in grouped(wanted, recalled)]
    for one, other in zip(grouped(wanted, fresh), parts, strict=True):
        assert merge_partials(one).encode() == other.encode()
    names = {"manifest": "f" * 64, "preprocessing": "none"}
    again = candidate_tables(parts, GRAPH, **names)
    for name, table in candidate_tables([merge_partials(p) for p in grouped(wanted, fresh)], GRAPH, **names).items():
        assert again[name].to_json() == table.to_json()


def grouped(manifest: Manifest, partials: list[Partial]) -> list[list[Partial]]:
    found: dict[int, list[Partial]] = {}
    for partial in partials:
        (part,) = {part_of(manifest.samples[index].digest) for index in partial.samples}
        found.setdefault(part, []).append(partial)
    return [found[part] for part in sorted(found)]


def test_the_largest_are_taken_first() -> None:
    contents = [content for content in range(200) if part_of(sample(content).digest) == 0][:3]
    manifest = manifest_of(contents)
    small, large = (Kept(str(size), manifest, count(manifest, list(range(size)))) for size in (1, 3))
    chosen, missing = recall(manifest, [small, large])
    assert chosen == (large,)
    assert missing == Manifest(())


def test_a_partial_of_more_than_the_manifest_has_is_not_used() -> None:
    whole = manifest_of([1])
    twice = manifest_of([1, 1])
    chosen, missing = recall(whole, [Kept("twice", twice, count(twice, [0, 1]))])
    assert (chosen, missing) == ((), whole)


def test_what_a_job_has_failed_by_is_left_aside() -> None:
    two_parts = next([0, i] for i in range(1, 12) if part_of(sample(0).digest) != part_of(sample(i).digest))
    manifest = manifest_of(two_parts)
    beyond = Kept("beyond", manifest_of([two_parts[0]]), count(manifest, [1]))
    mixed = Kept("mixed", manifest, count(manifest, [0, 1]))
    nothing = Kept("nothing", manifest, count(manifest, []))
    assert recall(manifest, [beyond, mixed, nothing]) == ((), manifest)


def test_a_sample_that_the_manifest_lacks_or_has_too_few_of_is_an_error() -> None:
    other = manifest_of([1, 2])
    numbering = Renumbering(manifest_of([1]))
    with pytest.raises(KeyError, match=r"2\.bin"):
        numbering.take(count(other, [1]), other)
    numbering.take(count(other, [0]), other)
    with pytest.raises(KeyError, match=r"1\.bin"):
        numbering.take(count(other, [0]), other)
