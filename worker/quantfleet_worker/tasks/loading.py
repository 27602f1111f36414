"""Loading a variant in the form that suits this device. Not for what an engine does with it."""

from pathlib import Path

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.work import ModelForm, Variant
from quantfleet_worker.engines.base import Engine, LoadOptions, Session
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.workspace import Workspace, entry_point


def form_for(engine: Engine, variant: Variant, here: Surroundings) -> ModelForm:
    """The form that the engine prefers on this device, of those that were made; the only one where there is but one.

    Raises QuantfleetError(ENGINE_FAILED) where it is not among several.
    """
    if len(variant.forms) == 1:
        return variant.forms[0]
    wanted = engine.preferred_form(here.isa) if variant.precision == "int8" else ""
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
    engine: Engine, variant: Variant, options: LoadOptions, workspace: Workspace, here: Surroundings
) -> tuple[ModelForm, Session]:
    """The chosen form and a session of it."""
    form = form_for(engine, variant, here)
    return form, engine.load(path_of(variant, form, workspace), options)


def path_of(variant: Variant, form: ModelForm, workspace: Workspace) -> Path:
    """What the engine is given to load: the form's files under their own names."""
    directory = workspace.bundle(f"{variant.precision}-{variant.quantization}-{form.form}", form.files)
    return entry_point(directory, form.files)
