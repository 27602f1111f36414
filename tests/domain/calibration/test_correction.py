"""Bias correction on small networks of linear layers, whose means can be worked out by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantfleet_domain.calibration.correction import (
    CHECKPOINTS,
    FP32,
    Corrections,
    FormCorrections,
    checkpoint,
    forms_in,
    quantity,
)
from quantfleet_domain.calibration.graph import Layer
from quantfleet_domain.calibration.sums import SumsAccumulator, merge_sums, unit_exponent
from quantfleet_domain.errors import ErrorCode, QuantfleetError

FORM = "u8s8"
CHANNELS = 4
SCALES = "c" * 64


def chain(length):
    return tuple(Layer(f"y{i}", f"w{i}", i + 1, i == length - 1) for i in range(length))


class Network:
    """A chain of linear layers, x ↦ W x, and the same on a coarse grid of weights; seen a sample at a time."""

    def __init__(self, graph, length, seed=0, step=0.25):
        rng = np.random.default_rng(seed)
        self.graph = replace(graph, layers=chain(length))
        self.weights = rng.normal(size=(length, CHANNELS, CHANNELS))
        self.rounded = np.rint(self.weights / step) * step
        self.samples = rng.normal(1.0, 0.5, size=(20, CHANNELS))

    def outputs(self, x, deltas=None):
        """Every layer's output: FP32's without deltas, else the quantized network's, its biases corrected."""
        found = []
        for index in range(len(self.weights)):
            x = self.weights[index] @ x if deltas is None else self.rounded[index] @ x + deltas[index]
            found.append(x)
        return found

    def first(self, index):
        """What stage 0 observes of a sample: each layer on FP32's input."""
        x, values = self.samples[index], {}
        for layer, weight, rounded in zip(self.graph.layers, self.weights, self.rounded, strict=True):
            real, coarse = weight @ x, rounded @ x
            values[quantity("mean", FP32, layer.output)] = real
            values[quantity("signal", FP32, layer.output)] = np.mean(real**2, keepdims=True)
            values[quantity("mean", FORM, layer.output)] = coarse
            values[quantity("error", FORM, layer.output)] = np.mean((coarse - real) ** 2, keepdims=True)
            x = real
        return values

    def later(self, index, stage, corrections):
        outputs = self.outputs(self.samples[index], deltas_of(corrections, self))
        places = {layer.output: place for place, layer in enumerate(self.graph.layers)}
        seen = {item.output: places[item.output] for item in checkpoint(self.graph, stage)}
        return {quantity("mean", FORM, name): outputs[place] for name, place in seen.items()}


def deltas_of(corrections, network):
    found = {item.layer: np.array(item.delta) for item in corrections.of(FORM).layers}
    return [found.get(layer.output, np.zeros(CHANNELS)) for layer in network.graph.layers]


def add_up(numerics, observe, indices):
    exponents = dict.fromkeys(observe(0), unit_exponent(100.0))
    accumulator = SumsAccumulator(numerics, "s", exponents)
    for index in indices:
        accumulator.add(index, str(index), {name: v.astype(np.float32) for name, v in observe(index).items()})
    return accumulator.sums()


def staged(numerics, network, shards, limit=None):
    """All stages, each from the merged sums of the shards."""
    merged = merge_sums([add_up(numerics, network.first, shard) for shard in shards])
    corrections = Corrections.first(merged, network.graph, forms_in(merged), SCALES, limit)
    yield corrections
    for stage in range(1, CHECKPOINTS + 1):

        def observe(index, stage=stage, corrections=corrections):
            return network.later(index, stage, corrections)

        corrections = corrections.refined(merge_sums([add_up(numerics, observe, shard) for shard in shards]))
        yield corrections


def shift(network, corrections):
    """How far the mean of the network's last output is from FP32's, largest over channels."""
    deltas = deltas_of(corrections, network)
    drift = [network.outputs(x, deltas)[-1] - network.outputs(x)[-1] for x in network.samples]
    return np.abs(np.mean(drift, axis=0)).max()


@settings(max_examples=25)
@given(st.data())
def test_any_sharding_and_order_gives_the_same_corrections(numerics, graph, data):
    network = Network(graph, length=5)
    dealt = data.draw(st.lists(st.integers(0, 3), min_size=20, max_size=20))
    order = data.draw(st.permutations(range(20)))
    shards = [[index for index in order if dealt[index] == shard] for shard in set(dealt)]
    whole = staged(numerics, network, [range(20)])
    for one, other in zip(staged(numerics, network, shards), whole, strict=True):
        assert one.to_json() == other.to_json()


def test_a_layer_on_its_own_input_gets_fp32s_mean_from_stage_0_alone(numerics, graph):
    network = Network(graph, length=1)
    first = next(staged(numerics, network, [range(20)]))
    uncorrected = shift(network, first.without_deltas())
    assert uncorrected > 0.05
    assert shift(network, first) < 1e-6


def test_a_checkpoint_brings_a_linear_layers_mean_to_fp32s(numerics, graph):
    network = Network(graph, length=8, step=0.5)
    first, *_, last = staged(numerics, network, [range(20)])
    # Of linear layers without activation functions, stage 0 leaves nothing to drift: so it is begun with nothing here.
    again = first.without_deltas()
    assert shift(network, again) > 0.1
    for stage in range(1, CHECKPOINTS + 1):
        sums = add_up(numerics, lambda index, s=stage, c=again: network.later(index, s, c), range(20))
        again = again.refined(sums)
    assert shift(network, again) < 1e-4
    assert shift(network, last) < 1e-4


def test_a_layer_below_the_limit_stays_in_float_and_gets_no_delta(numerics, graph):
    network = Network(graph, length=6)
    everything = next(staged(numerics, network, [range(20)])).of(FORM)
    assert everything.excluded == ()
    ratios = sorted(item.sqnr_db for item in everything.layers)
    limit = (ratios[1] + ratios[2]) / 2
    for corrections in staged(numerics, network, [range(20)], limit):
        found = corrections.of(FORM)
        assert {item.layer for item in found.excluded} == {
            item.layer for item in everything.layers if item.sqnr_db < limit
        }
        assert len(found.excluded) == 2
        assert {item.layer for item in found.layers} | {item.layer for item in found.excluded} == {
            layer.output for layer in network.graph.layers
        }
        assert not {item.layer for item in found.layers} & {item.layer for item in found.excluded}


def test_a_ratio_is_that_of_the_error_without_its_mean(numerics, graph):
    network = Network(graph, length=1)
    errors = np.array([(network.rounded[0] - network.weights[0]) @ x for x in network.samples])
    outputs = np.array([network.weights[0] @ x for x in network.samples])
    noise = np.mean(errors**2) - np.mean(np.mean(errors, axis=0) ** 2)
    (found,) = next(staged(numerics, network, [range(20)])).of(FORM).layers
    assert found.sqnr_db == pytest.approx(10 * np.log10(np.mean(outputs**2) / noise), abs=0.002)


def test_a_layer_without_error_has_no_ratio_and_is_never_excluded(numerics, graph):
    network = Network(graph, length=1)
    network.rounded = network.weights
    corrections = next(staged(numerics, network, [range(20)], 1000.0))
    (found,) = corrections.of(FORM).layers
    assert (found.sqnr_db, found.delta) == (None, (0.0,) * CHANNELS)


def test_without_deltas_leaves_exclusions_and_biases_as_they_were(numerics, graph):
    corrections = next(staged(numerics, Network(graph, length=6), [range(20)], 20.0))
    bare = corrections.without_deltas().of(FORM)
    assert bare.excluded == corrections.of(FORM).excluded
    assert {item.layer for item in bare.layers} == {item.layer for item in corrections.of(FORM).layers}
    assert all(item.delta == (0.0,) * CHANNELS for item in bare.layers)


@given(st.data(), st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=30))
def test_checkpoints_are_of_one_depth_and_the_last_has_every_last_layer(graph, data, found):
    layers = tuple(Layer(f"y{i}", f"w{i}", depth, last) for i, (depth, last) in enumerate(found))
    made = replace(graph, layers=layers)
    for stage in range(1, CHECKPOINTS + 1):
        chosen = checkpoint(made, stage)
        last = stage == CHECKPOINTS
        assert len({layer.depth for layer in chosen if not (last and layer.last)}) <= 1
        for depth in {layer.depth for layer in chosen if not layer.last}:
            assert {layer for layer in layers if layer.depth == depth} <= set(chosen)
    assert {layer for layer in layers if layer.last} <= set(checkpoint(made, CHECKPOINTS))


def test_the_checkpoints_of_a_chain_are_spread_over_it(graph):
    made = replace(graph, layers=chain(28))
    assert [[item.output for item in checkpoint(made, s)] for s in range(1, 5)] == [["y6"], ["y13"], ["y20"], ["y27"]]


def test_a_network_without_layers_is_corrected_by_nothing(numerics, graph):
    sums = add_up(numerics, lambda _: {}, range(3))
    corrections = Corrections.first(sums, graph, forms_in(sums), SCALES, 10.0)
    assert corrections.of(FORM) == FormCorrections(FORM, (), ())


def test_a_form_that_was_not_observed_is_an_error(numerics, graph):
    corrections = next(staged(numerics, Network(graph, length=2), [range(20)]))
    with pytest.raises(QuantfleetError, match="'s8-symmetric'") as caught:
        corrections.of("s8-symmetric")
    assert caught.value.code is ErrorCode.SCALES_INVALID


def test_corrections_read_back_as_they_were(numerics, graph):
    for corrections in staged(numerics, Network(graph, length=6), [range(20)], 20.0):
        assert Corrections.from_json(corrections.to_json()) == corrections
        assert Corrections.from_json(corrections.to_json()).sha256 == corrections.sha256


@settings(max_examples=150)
@given(st.data())
def test_damaged_corrections_are_one_error_or_other_corrections(numerics, graph, data):
    content = next(staged(numerics, Network(graph, length=2), [range(3)], 20.0)).to_json()
    at = data.draw(st.integers(0, len(content) - 1))
    damaged = content[:at] + data.draw(st.binary(max_size=4)) + content[at + data.draw(st.integers(0, 3)) :]
    try:
        found = Corrections.from_json(damaged)
    except QuantfleetError as error:
        outcome = error.code
    else:
        outcome = type(found)
    assert outcome in (ErrorCode.SCALES_INVALID, Corrections)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("schema",), "v0", "schema: expected"),
        (("samples",), 0, "samples: expected an integer"),
        (("forms", 0, "layers", 0, "delta"), ["a"], r"forms\[0\].layers\[0\].delta\[0\]: expected a finite number"),
        (("forms", 0, "layers", 0, "sqnr_db"), "a", r"forms\[0\].layers\[0\].sqnr_db: expected a finite number"),
        (("means", "y0"), 3, "means.y0: expected an array"),
    ],
)
def test_what_is_wrong_in_corrections_is_said_with_its_place(numerics, graph, path, value, words):
    document = json.loads(next(staged(numerics, Network(graph, length=2), [range(3)])).to_json())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(QuantfleetError, match=words) as caught:
        Corrections.from_json(json.dumps(document).encode())
    assert caught.value.code is ErrorCode.SCALES_INVALID
