import sys
from pathlib import Path

import pytest
from tests.worker.training.recipes import write_package

from quantfleet_domain.errors import Category, ErrorCode, QuantfleetError
from quantfleet_worker.training.recipe import load_recipe


def refused(package: str, allowed: frozenset[str], config: str = "{}") -> QuantfleetError:
    with pytest.raises(QuantfleetError) as caught:
        load_recipe(package, config, allowed)
    return caught.value


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_package_that_is_not_allowed_is_never_imported(site: Path) -> None:
    write_package(site, "forbidden_recipes", "raise SystemExit\n")
    error = refused("forbidden_recipes", frozenset({"others"}))
    assert (error.code, error.category) == (ErrorCode.CODE_NOT_ALLOWED, Category.REFUSED)
    assert "does not allow the Python package forbidden_recipes; it allows others" in error.what
    assert "forbidden_recipes" not in sys.modules


def test_allowing_a_package_does_not_allow_what_lies_in_it(site: Path) -> None:
    assert refused("os.path", frozenset({"os"})).code is ErrorCode.CODE_NOT_ALLOWED


def test_a_package_that_is_not_installed_is_named_with_what_to_install() -> None:
    error = refused("absent_recipes", frozenset({"absent_recipes"}))
    assert error.code is ErrorCode.ENGINE_MISSING
    assert "install absent_recipes" in error.todo


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1 / 0\n", "import raised ZeroDivisionError"),
        ("def recipe(config):\n    return {}[config]\n", "recipe raised KeyError: 'text'"),
        ("def recipe(config):\n    return object()\n", "an object without batch_size, inputs, iters, learning_rate"),
        ("import absent_thing\n", "absent_thing"),
    ],
)
def test_an_exception_in_a_users_package_names_package_function_and_exception(
    site: Path, content: str, said: str
) -> None:
    name = f"broken_recipes_{abs(hash(content))}"
    write_package(site, name, content)
    error = refused(name, frozenset({name}), "text")
    assert name in error.what
    assert said in error.what
    assert error.category is Category.FAILED


def test_a_task_that_is_not_known_is_refused(package: str) -> None:
    error = refused(package, frozenset({package}), '{"task": "detection"}')
    assert "task is 'detection'" in error.what
