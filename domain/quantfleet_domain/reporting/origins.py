"""How the quantized models of a report came about, as tables: trainings, calibration, what it chose from. No markup."""

from quantfleet_domain.reporting import words
from quantfleet_domain.reporting.report import Report
from quantfleet_domain.reporting.section import Section
from quantfleet_domain.reporting.table import METRIC_LABELS


def training(report: Report) -> Section:
    """Every training: how long it was, what its loss came to, and which model was taken."""
    rows = []
    for t in report.training:
        losses = sorted((int(iteration), loss) for iteration, loss in t.losses.items())
        curve = f"{losses[0][1]:.4g} → {losses[-1][1]:.4g}" if losses else words.MISSING
        best = f"iteration {t.best_iteration}"
        if t.metric and t.best_value is not None:
            best += f", {METRIC_LABELS.get(t.metric, t.metric)} {t.best_value:.2f} %"
        counts = (str(t.iterations), str(t.intervals), str(t.samples), words.number(t.seconds))
        rows.append((t.model, t.method, *counts, curve, best))
    header = ("Model", "Method", "Iterations", "Intervals", "Samples", "Seconds", "Loss, first → last", "Taken")
    return Section("Training", header, tuple(rows), frozenset({2, 3, 4, 5}))


def calibration(report: Report) -> Section:
    """How each model's scale table was made, and what was done to its biases."""
    rows = (
        (
            model,
            words.calibrator(c),
            f"{c.samples} ({c.recalled} recalled)" if c.recalled else str(c.samples),
            str(c.shards),
            words.number(c.seconds),
            "; ".join(c.collectors) or words.MISSING,
            words.bias_correction(c.bias_correction),
            "; ".join(c.excluded) or "none",
            words.facts(c.numerics_class),
        )
        for model, c in sorted(report.calibration.items())
    )
    header = (
        *("Model", "Calibrator", "Samples", "Shards", "Seconds"),
        *("Counted by", "Bias correction", "Layers left in float", "Numerics class"),
    )
    note = (
        "Recalled samples were counted by earlier jobs." if any(c.recalled for c in report.calibration.values()) else ""
    )
    return Section("Calibration", header, tuple(rows), frozenset({2, 3, 4}), note)


def scores(report: Report) -> Section:
    """How the candidate tables of `auto` did, the best first."""
    rows = (
        (model, name, f"{score:.2f}", "chosen" if name == c.chosen else "")
        for model, c in sorted(report.calibration.items())
        for name, score in sorted((c.scores or {}).items(), key=lambda item: (item[0] != c.chosen, -item[1]))
    )
    note = "Signal-to-noise ratio of outputs on samples held back; auto has the best calibrator of each tensor."
    header = ("Model", "Scale table", "Output SQNR [dB]", "Verdict")
    return Section("What auto chose from", header, tuple(rows), frozenset({2}), note)


def outliers(report: Report) -> Section:
    """The samples that stretch ranges, and how far."""
    rows = (
        (model, o.sample, str(o.tensors), o.worst, words.number(o.absmax), words.number(o.without))
        for model, c in sorted(report.calibration.items())
        for o in c.outliers
    )
    note = "Look at them: a broken sample is to be left out, a rare but real one is what mse and percentile are for."
    header = ("Model", "Sample", "Tensors", "Most so", "Largest magnitude", "Without such samples")
    return Section("Samples that drive ranges", header, tuple(rows), frozenset({2, 4, 5}), note)
