"""What a user's package tells about a network that is to be trained for INT8. Not for the training itself.

A package that the node's owner allows by name has a function `recipe(config)`, which takes the text of the user's
configuration file and returns an object with the members of `Recipe`. It needs nothing of quantfleet.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.training.samples import TrainingSample

Array = NDArray[Any]
TASKS = ("classification", "segmentation")
Result = TypeVar("Result")


@runtime_checkable
class Recipe(Protocol):
    """A network and how it is trained. Paddle's objects are untyped.

    `inputs` are the network's inputs in the order of its `forward`, by name: float32 shapes without the batch.
    `iters`, `batch_size` and `learning_rate` (the first one) stand where a job does not say otherwise.
    """

    task: str
    inputs: Mapping[str, tuple[int, ...]]
    iters: int
    batch_size: int
    learning_rate: float

    def network(self) -> Any:
        """A new `paddle.nn.Layer`, which returns logits: (N, C) for classification, (N, C, H, W) for segmentation.

        In training it may return several, in a list or tuple whose first one counts.
        """

    def sample(
        self, sample: TrainingSample, random: np.random.Generator | None
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """The inputs and the targets of one sample, without the batch; targets are () where it has none.

        `random` decides what is augmented; None asks for no augmentation. Called by several threads.
        """
        ...

    def loss(self, outputs: Any, targets: tuple[Any, ...]) -> Any:
        """The scalar loss of what the network returned and the targets, as tensors with the batch in front."""

    def optimizer(self, parameters: list[Any], learning_rate: float) -> Any:
        """A new `paddle.optimizer.Optimizer` of the parameters. Its rate decays to 0 by a polynomial, power 0.9."""


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe, the package that it comes from, which errors in it name, and the configuration that made it."""

    package: str
    config: str
    recipe: Recipe

    def call(self, function: str, called: Callable[..., Result], *arguments: Any) -> Result:
        """Call the user's code. Raises QuantfleetError(ENGINE_FAILED) for an exception in it, naming `function`."""
        try:
            return called(*arguments)
        except QuantfleetError:
            raise
        except Exception as error:  # user code raises whatever it likes
            raise _failed(self.package, function, error) from error


def load_recipe(package: str, config: str, allowed: frozenset[str]) -> LoadedRecipe:
    """Import a user's package, which must be `allowed`, and make its recipe of the configuration's text.

    Raises QuantfleetError: CODE_NOT_ALLOWED before anything of it is imported, ENGINE_MISSING where it is not
    installed, ENGINE_FAILED for an exception in it or a recipe that lacks something.
    """
    if package not in allowed:
        raise QuantfleetError(
            ErrorCode.CODE_NOT_ALLOWED,
            f"the node does not allow the Python package {package}; it allows {', '.join(sorted(allowed)) or 'none'}",
            "ask the node's owner to allow it by name, after reading it",
        )
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise QuantfleetError(
            ErrorCode.ENGINE_MISSING,
            f"the package {package} cannot be imported on this node: {error}",
            f"install {error.name or package} in the worker's environment",
        ) from error
    except Exception as error:  # importing runs the user's code, which raises whatever it likes
        raise _failed(package, "import", error) from error
    try:
        recipe = module.recipe(config)
    except Exception as error:  # as above
        raise _failed(package, "recipe", error) from error
    if not isinstance(recipe, Recipe):
        lacking = sorted(name for name in _members() if not hasattr(recipe, name))
        raise QuantfleetError(
            ErrorCode.ENGINE_FAILED, f"{package}.recipe returned an object without {', '.join(lacking)}", "see Recipe"
        )
    if recipe.task not in TASKS:
        raise QuantfleetError(
            ErrorCode.ENGINE_FAILED, f"{package}.recipe: task is {recipe.task!r}", f"tasks are {', '.join(TASKS)}"
        )
    return LoadedRecipe(package, config, recipe)


def _members() -> set[str]:
    return {*Recipe.__annotations__, *(name for name in vars(Recipe) if not name.startswith("_"))}


def _failed(package: str, function: str, error: Exception) -> QuantfleetError:
    return QuantfleetError(
        ErrorCode.ENGINE_FAILED,
        f"{package}: {function} raised {type(error).__name__}: {error}",
        "it is the code of that package: mend it there",
    )
