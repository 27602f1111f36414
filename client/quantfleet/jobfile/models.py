"""Which files on this disk make up a model. Not for reading them: no engine is imported here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quantfleet_domain.errors import ErrorCode
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
    """The files of the model at `path`: an .onnx file, a Paddle model's directory, or its program file.

    `stated` is the format that the job gives; None guesses it. Raises QuantfleetError(MODEL_NOT_FOUND or
    MODEL_UNREADABLE) at the place of `value`.
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
    return _paddle(value, path)


def _guess(value: Value, path: Path) -> str:
    if path.is_dir():
        return "onnx" if any(path.glob("*.onnx")) and not any(path.glob("*.pdiparams")) else "paddle"
    if path.suffix == ".onnx":
        return "onnx"
    if path.suffix in (".pdmodel", ".json", ".pdiparams"):
        return "paddle"
    todo = "give an .onnx file or a Paddle model's directory, or say `format:`"
    raise value.error(f"{path} is no model that its name tells", todo, ErrorCode.MODEL_UNREADABLE)


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
