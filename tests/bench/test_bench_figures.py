"""What the benchmarks compute and write. Not what they measure: that needs the peers and takes an hour."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.interleaving import Interleaved

from bench import accuracy_page, figures, records


def _bits(only_one: int, only_other: int, both: int) -> tuple[Any, Any]:
    one = np.array([1] * only_one + [0] * only_other + [1] * both, np.bool_)
    other = np.array([0] * only_one + [1] * only_other + [1] * both, np.bool_)
    return one, other


def test_mcnemar_is_the_exact_binomial_test_on_the_samples_that_only_one_has_right() -> None:
    # Two-sided, of 10 coins 2 or fewer heads: 2 * (1 + 10 + 45) / 1024.
    assert figures.mcnemar_p(*_bits(8, 2, 50)) == pytest.approx(112 / 1024)
    assert figures.mcnemar_p(*_bits(2, 8, 50)) == pytest.approx(112 / 1024)


def test_two_classifiers_that_are_right_on_the_same_samples_do_not_differ() -> None:
    assert figures.mcnemar_p(*_bits(0, 0, 10)) == 1.0
    assert figures.mcnemar_p(*_bits(3, 3, 10)) == 1.0


def test_packed_bits_come_back_whatever_their_number() -> None:
    bits = np.random.default_rng(0).random(203) < 0.5
    assert np.array_equal(figures.unpacked(figures.packed(bits), 203), bits)


def test_the_noise_of_logits_does_not_depend_on_the_constant_that_softmax_takes_away() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 3, (20, 30))
    noise = generator.normal(0, 0.1, (20, 30))

    def softmax(values: Any) -> Any:
        powers = np.exp(values)
        return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)

    centred, noisy = logits - logits.mean(axis=1, keepdims=True), logits + noise
    error = noisy - noisy.mean(axis=1, keepdims=True) - centred
    expected = 10 * math.log10((centred**2).sum() / (error**2).sum())
    assert figures.sqnr_logits_db(softmax(noisy), softmax(logits)) == pytest.approx(expected, abs=0.01)


def test_quantized_probabilities_have_no_logits() -> None:
    generator = np.random.default_rng(2)
    reference = generator.dirichlet(np.ones(10), 100).astype(np.float32)
    rounded = (np.round(reference * 255) / 255).astype(np.float32)
    assert figures.sqnr_logits_db(rounded, reference) is None


def test_the_time_of_the_forward_passes_is_not_the_calibrators() -> None:
    now = [0.0]

    def spend(seconds: float) -> None:
        now[0] += seconds

    samples = Interleaved([np.zeros((1, 1), np.float32)] * 2, 10, lambda _: spend(2.0), clock=lambda: now[0])
    spend(5.0)
    for _ in samples:
        spend(1.0)
    assert samples.times() == (5.0, 10.0)
    assert samples.forward_seconds == 2.0


def test_rows_that_are_measured_again_replace_the_old_ones_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    head = {"machine": {"processor": "one"}, "versions": {}}
    records.write(path, head, [{"tool": "a", "value": 1}, {"tool": "b", "value": 1}])
    merged = records.merged(path, head, [{"tool": "a", "value": 2}], lambda row: row["tool"] == "a")
    assert merged == [{"tool": "b", "value": 1}, {"tool": "a", "value": 2}]


def test_rows_of_another_machine_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"machine": {"processor": "another"}, "versions": {}, "rows": [{"tool": "b"}]}))
    with pytest.raises(SystemExit, match="another machine"):
        records.merged(path, {"machine": {"processor": "one"}, "versions": {}}, [], lambda _: False)


def test_text_outside_the_marks_is_left_as_it_was(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- t: written by make, do not edit -->\nold\n<!-- t: end -->\nafter\n")
    records.splice(page, "t", "new")
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- t: end -->\nafter\n")
    assert "new" in text
    assert "old" not in text


def test_a_peer_is_compared_with_our_default_on_its_own_engine() -> None:
    def row(tool: str, engine: str, right: list[int]) -> dict[str, Any]:
        bits = figures.packed(np.array(right, np.bool_))
        common = {"model": "m", "images": 8, "arithmetic": "int8", "calibrator": "default (mse)", "method": "x"}
        return {**common, "tool": tool, "engine": engine, "right": bits, "agrees": bits}

    rows = [
        row("paddleslim", "paddle-cpu", [0] * 8),
        row("ours", "paddle-cpu", [1] * 8),
        row("ours", "onnxruntime-cpu", [0] * 8),
    ]
    ours, other, peer = accuracy_page.compared(rows)
    assert "mcnemar_top1_p" not in ours
    assert "mcnemar_top1_p" not in other
    assert peer["mcnemar_top1_p"] == pytest.approx(2 / 2**8, abs=1e-4)
