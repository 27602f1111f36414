"""Which files on this disk make up a model. Not for reading them, but for an `.nb`, which nothing can mend later on: no
engine is imported here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.yaml_tree import Value

PICTURE_NAMES = ("inference_cls.yaml", "infer_cfg.yml", "deploy.yaml")
TEXT_NAMES = ("tokenizer.json",)


@dataclass(frozen=True)
class ModelFiles:
    """The format, the directory of the files, and the files themselves (their names are relative to it)."""

    format: str
    directory: Path
    files: tuple[Path, ...]

    def beside(self, names: Sequence[str]) -> Path | None:
        """The first file of these names that lies beside the model, if one does."""
        return next((self.directory / name for name in names if (self.directory / name).is_file()), None)


def find(value: Value, path: Path, stated: str | None) -> ModelFiles:
    """The files of the model at `path`: an .onnx file, a Paddle model's directory or program file, or an .nb file.

    `stated` is the format that the job gives; None guesses it. Raises QuantfleetError at the place of `value`:
    MODEL_NOT_FOUND, MODEL_UNREADABLE, and MODEL_UNSUPPORTED for an .nb that is not quantized or not for phones.
    """
    if not path.exists():
        raise value.error(
            f"there is no model {path}", "give an .onnx file or a Paddle model's directory", ErrorCode.MODEL_NOT_FOUND
        )
    kind = stated or _guess(value, path)
    if kind == "onnx":
        if path.is_dir():
            found = sorted(path.glob("*.onnx"))
            if len(found) != 1:
                what = f"{path} holds {len(found)} .onnx files"
                raise value.error(what, "name the file itself", ErrorCode.MODEL_NOT_FOUND)
            path = found[0]
        # What the exporters of PyTorch and of onnx call the file of large weights.
        beside = (f"{path.name}.data", f"{path.name}_data", f"{path.stem}.data", f"{path.stem}.onnx_data")
        extra = sorted({path.parent / name for name in beside if (path.parent / name).is_file()})
        return ModelFiles("onnx", path.parent, (path, *extra))
    return _paddle_lite(value, path) if kind == "paddle-lite" else _paddle(value, path)


def _guess(value: Value, path: Path) -> str:
    if path.is_dir():
        return "onnx" if any(path.glob("*.onnx")) and not any(path.glob("*.pdiparams")) else "paddle"
    if path.suffix == ".onnx":
        return "onnx"
    if path.suffix in (".pdmodel", ".json", ".pdiparams"):
        return "paddle"
    if path.suffix == ".nb":
        return "paddle-lite"
    todo = "give an .onnx file, a Paddle model's directory or an .nb file, or say `format:`"
    raise value.error(f"{path} is no model that its name tells", todo, ErrorCode.MODEL_UNREADABLE)


def _paddle_lite(value: Value, path: Path) -> ModelFiles:
    from quantfleet_worker.phones.nb_file import TARGET, read_given

    if path.is_dir() or path.suffix != ".nb":
        raise value.error(f"{path} is no .nb file", "name the file that opt has written", ErrorCode.MODEL_UNREADABLE)
    try:
        read_given(path.read_bytes(), str(path), TARGET)
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror}"
        raise value.error(what, "check that it is readable", ErrorCode.MODEL_UNREADABLE) from error
    except QuantfleetError as error:
        raise value.error(error.what, error.todo, error.code) from error
    return ModelFiles("paddle-lite", path.parent, (path,))


def _paddle(value: Value, path: Path) -> ModelFiles:
    directory = path if path.is_dir() else path.parent
    programs: dict[str, Path] = {}
    for program in (*sorted(directory.glob("*.json")), *sorted(directory.glob("*.pdmodel"))):
        # A .json without parameters is some other file; of two forms of one model the .pdmodel is taken.
        if program.suffix == ".pdmodel" or program.with_suffix(".pdiparams").is_file():
            programs[program.stem] = program
    if path.is_file():
        chosen = path if path.suffix != ".pdiparams" else programs.get(path.stem)
        programs = {path.stem: chosen} if chosen else {}
    if len(programs) != 1:
        what = f"{path} holds {'no' if not programs else 'several'} Paddle inference model{'s' * bool(programs)}"
        todo = "give a directory with one .pdmodel or .json program and its .pdiparams"
        raise value.error(what, todo, ErrorCode.MODEL_UNREADABLE if programs else ErrorCode.MODEL_NOT_FOUND)
    (program,) = programs.values()
    parameters = program.with_suffix(".pdiparams")
    if not parameters.is_file():
        todo = f"put {parameters.name} into the directory"
        raise value.error(f"{program} has no parameters beside it", todo, ErrorCode.MODEL_UNREADABLE)
    return ModelFiles("paddle", directory, (program, parameters))
