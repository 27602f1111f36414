"""PaddleSlim, loaded where a task needs it and kept quiet. Not for what is done with it."""

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError

INSTALL = "pip install 'quantfleet[training]' && pip install --no-deps paddleslim==2.6.0"


def load_slim(module: str) -> Any:
    """A module of PaddleSlim. Untyped: it publishes no types.

    Raises QuantfleetError(ENGINE_MISSING) with how to install it: its own requirements do not load with numpy 2.
    """
    try:
        with quiet():
            return importlib.import_module(f"paddleslim.{module}")
    except ImportError as error:
        raise QuantfleetError(ErrorCode.ENGINE_MISSING, f"paddleslim cannot be imported: {error}", INSTALL) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars, the log and the warnings of Paddle's and PaddleSlim's passes."""
    kept = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(kept)
