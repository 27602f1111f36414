"""A recipe's network in Paddle: fake-quantized for training, and in float for export. Not for the loop around it."""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_normalize import normalize
from quantfleet_worker.models.paddle_program import (
    CONVOLUTIONS,
    PRODUCTS,
    Array,
    PaddleProgram,
    load_paddle,
)
from quantfleet_worker.quantizers.paddle_ranges import operands, unsigned
from quantfleet_worker.training.codes import U8_BITS
from quantfleet_worker.training.recipe import LoadedRecipe
from quantfleet_worker.training.slim import quiet

STEM = "inference"
"""The stem of an exported program's files."""
_WRAPPED = "._layer."
"""Where a quantized layer stands in the wrapper that Paddle puts around it."""
_RANGE = "._layer._fake_quant_input._scale"
_QUANTIZERS = ("._fake_quant_weight", "._fake_quant_input", "._ma_output_scale")
_AVERAGES = ("._state", "._accum")


@dataclass(frozen=True)
class QuantizedNetwork:
    """The network with its layers wrapped in fake quantization, and its optimizer."""

    loaded: LoadedRecipe
    layer: Any
    optimizer: Any

    @classmethod
    def build(cls, loaded: LoadedRecipe, learning_rate: float, in_u8: Collection[str]) -> "QuantizedNetwork":
        """The network with random weights; `in_u8` are `FloatNetwork.unsigned_layers`.

        Convolutions are quantized; linear layers only where there are none, because those behind them are the head,
        which stays in float. Raises QuantfleetError(ENGINE_FAILED).
        """
        paddle = load_paddle()
        # Its own names from 0: the optimizer's state goes by them.
        with paddle.utils.unique_name.guard(), quiet():
            layer = loaded.call("network", loaded.recipe.network)
            convolves = any(isinstance(part, paddle.nn.Conv2D) for part in layer.sublayers(include_self=True))
            paddle.quantization.ImperativeQuantAware(
                quantizable_layer_type=["Conv2D" if convolves else "Linear"],
                weight_quantize_type="channel_wise_abs_max",
                activation_quantize_type="moving_average_abs_max",
                onnx_format=True,
            ).quantize(layer)
            for name, part in layer.named_sublayers():
                if _plain(f"{name}.weight") in in_u8 and hasattr(part, "_fake_quant_input"):
                    part._fake_quant_input._quant_bits = U8_BITS
            parameters = [parameter for parameter in layer.parameters() if not parameter.stop_gradient]
            optimizer = loaded.call("optimizer", loaded.recipe.optimizer, parameters, learning_rate)
        return cls(loaded, layer, optimizer)

    def begin(self, weights: Mapping[str, Array]) -> None:
        """Start from FP32 weights. Raises QuantfleetError(MODEL_UNREADABLE) where they do not fit."""
        tensors = self.layer.state_dict()
        plain = {_plain(key): tensor for key, tensor in tensors.items() if _is_weight(key)}
        _set_weights(plain, weights)
        for key, tensor in tensors.items():
            if key.endswith(_AVERAGES):
                # Paddle begins a moving average as if the number 1 had been seen before.
                tensor.set_value(np.zeros(tensor.shape, np.float32))

    def step(self, inputs: Sequence[Array], targets: Sequence[Array], rate: float, seed: int) -> float:
        """Run one iteration at a learning rate; returns the loss before it. `seed` is of the network's own dropout."""
        paddle, call = load_paddle(), self.loaded.call
        paddle.seed(seed)
        self.layer.train()
        call("optimizer", self.optimizer.set_lr, rate)
        outputs = call("forward", self.layer, *map(paddle.to_tensor, inputs))
        loss = call("loss", self.loaded.recipe.loss, outputs, tuple(map(paddle.to_tensor, targets)))
        value = float(loss)
        loss.backward()
        with paddle.utils.unique_name.guard():  # the first step names the accumulators, by which they are restored
            call("optimizer", self.optimizer.step)
        self.optimizer.clear_grad()
        return value

    def evaluate(self, inputs: Sequence[Array]) -> Array:
        """The logits of a batch, without dropout and with the statistics that training has gathered."""
        paddle = load_paddle()
        self.layer.eval()
        with paddle.no_grad():
            found = self.loaded.call("forward", self.layer, *map(paddle.to_tensor, inputs))
        scores: Array = (found[0] if isinstance(found, (list, tuple)) else found).numpy()
        return scores

    def state(self) -> dict[str, Array]:
        """Everything that an iteration changes: weights, statistics, the quantizers' averages, the optimizer's."""
        state = {f"network/{key}": tensor.numpy() for key, tensor in self.layer.state_dict().items()}
        return state | {f"optimizer/{key}": tensor.numpy() for key, tensor in self.optimizer.state_dict().items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Set what `state` returned. Raises QuantfleetError(MODEL_UNREADABLE) where that is of another network."""
        _set_weights(self.layer.state_dict(), _part(state, "network/"))
        tensors = {key: load_paddle().to_tensor(values) for key, values in _part(state, "optimizer/").items()}
        self.optimizer.set_state_dict(tensors)

    @staticmethod
    def weights(state: Mapping[str, Array]) -> dict[str, Array]:
        """The FP32 weights in a state, by the names that they have in the network without fake quantization."""
        found = _part(state, "network/")
        return {_plain(key): values for key, values in found.items() if _is_weight(key)}

    @staticmethod
    def input_ranges(state: Mapping[str, Array]) -> dict[str, float]:
        """The largest magnitude of what each quantized layer reads, by the name of the layer's weight."""
        return {
            f"{key.removesuffix(_RANGE)}.weight": float(values.reshape(-1)[0])
            for key, values in _part(state, "network/").items()
            if key.endswith(_RANGE)
        }


@dataclass(frozen=True)
class FloatNetwork:
    """The network in float."""

    loaded: LoadedRecipe
    layer: Any

    @classmethod
    def build(cls, loaded: LoadedRecipe, weights: Mapping[str, Array]) -> "FloatNetwork":
        """The network with these weights. Raises QuantfleetError(MODEL_UNREADABLE) where they do not fit."""
        with load_paddle().utils.unique_name.guard():
            layer = loaded.call("network", loaded.recipe.network)
        _set_weights(layer.state_dict(), weights)
        layer.eval()
        return cls(loaded, layer)

    def program(self, folder: Path) -> PaddleProgram:
        """The normalised program, which returns the logits; `folder` takes Paddle's own export meanwhile.

        Raises QuantfleetError(ENGINE_FAILED) where the recipe's network cannot be exported.
        """
        paddle = load_paddle()
        inputs = self.loaded.recipe.inputs.items()
        specs = [paddle.static.InputSpec([None, *shape], "float32", name) for name, shape in inputs]
        with paddle.pir_utils.DygraphOldIrGuard(), quiet():
            self.loaded.call("forward", lambda: paddle.jit.save(self.layer, str(folder / STEM), input_spec=specs))
        program = normalize(PaddleProgram.load(folder, STEM))
        return replace(program, fetches=program.fetches[:1])

    def ranges_of(self, by_weight: Mapping[str, float]) -> dict[str, float]:
        """Ranges of layers' inputs, given by the weights' names, by the names of the tensors in the program."""
        return {tensor: by_weight[key] for key, tensor in self._read_by_layers(self._program()) if key in by_weight}

    def unsigned_layers(self) -> set[str]:
        """The layers, by the names of their weights, whose input oneDNN reads as u8."""
        program = self._program()
        nonnegative = unsigned(program)
        return {key for key, tensor in self._read_by_layers(program) if tensor in nonnegative}

    def _program(self) -> PaddleProgram:
        with tempfile.TemporaryDirectory(prefix="quantfleet-training-") as folder:
            return self.program(Path(folder))

    def _read_by_layers(self, program: PaddleProgram) -> list[tuple[str, str]]:
        """(name of the weight in the network, tensor that is read) of each convolution and matrix product."""
        keys = {tensor.name: key for key, tensor in self.layer.state_dict().items()}
        layers = (operands(operator) for operator in program.operators if operator.type in (*CONVOLUTIONS, *PRODUCTS))
        return [(keys[weight], activation) for activation, weight in layers if weight in keys]


def _set_weights(tensors: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
    missing = [key for key in tensors if key not in weights]
    misfits = [
        f"{key} is {list(weights[key].shape)}, not {list(tensor.shape)}"
        for key, tensor in tensors.items()
        if key in weights and list(weights[key].shape) != list(tensor.shape)
    ]
    if missing or misfits:
        problems = [f"it has no {', '.join(missing)}"] * bool(missing) + misfits
        raise QuantfleetError(
            ErrorCode.MODEL_UNREADABLE,
            f"the weights do not fit the recipe's network: {'; '.join(problems)}",
            "give the weights of the network that the configuration describes",
        )
    for key, tensor in tensors.items():
        tensor.set_value(weights[key])


def _is_weight(key: str) -> bool:
    return not key.rpartition(".")[0].endswith(_QUANTIZERS)


def _plain(key: str) -> str:
    return key.replace(_WRAPPED, ".")


def _part(state: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {key.removeprefix(prefix): values for key, values in state.items() if key.startswith(prefix)}
