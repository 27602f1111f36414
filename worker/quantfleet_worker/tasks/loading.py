"""Loading a variant in the form that suits this device. Not for what an engine does with it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.spec import InputShape
from quantfleet_domain.jobs.work import ModelForm, Variant
from quantfleet_worker.engines.base import Engine, LoadOptions, Session
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.workspace import Workspace, entry_point


def form_for(engine: Engine, variant: Variant, asked: str, here: Surroundings) -> ModelForm:
    """The form that the job asked for, or the engine prefers on this device, of those that were made; the only one
    where there is but one.

    Raises QuantfleetError(ENGINE_FAILED) where it is not among several.
    """
    if len(variant.forms) == 1:
        return variant.forms[0]
    wanted = asked if asked and variant.quantization == "static" else engine.preferred_form(here.isa, variant.precision)
    for form in variant.forms:
        if form.form == wanted:
            return form
    made = ", ".join(form.form for form in variant.forms)
    raise QuantfleetError(
        ErrorCode.ENGINE_FAILED,
        f"{engine.name} wants form {wanted!r} here, and only {made} was made",
        "install the same version of quantfleet on all nodes, and retry the job",
    )


def load_variant(
    engine: Engine, variant: Variant, options: LoadOptions, workspace: Workspace, here: Surroundings, form: str = ""
) -> tuple[ModelForm, Session]:
    """The chosen form, which is `form` where that was asked for, and a session of it."""
    chosen = form_for(engine, variant, form, here)
    return chosen, engine.load(path_of(variant, chosen, workspace), settled(options, chosen, here))


def settled(options: LoadOptions, form: ModelForm, here: Surroundings) -> LoadOptions:
    """The options with what follows from the form, and from where the task runs."""
    return replace(options, form=form.form, kept=Path(here.kept) if here.kept else None)


def shapes_at(shapes: Sequence[InputShape], batch: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The shapes of inputs, known at batch 1, at another batch."""
    return tuple((shape.name, (batch, *shape.dims[1:])) for shape in shapes)


def path_of(variant: Variant, form: ModelForm, workspace: Workspace) -> Path:
    """What the engine is given to load: the form's files under their own names."""
    directory = workspace.bundle(f"{variant.precision}-{variant.quantization}-{form.form}", form.files)
    return entry_point(directory, form.files)
