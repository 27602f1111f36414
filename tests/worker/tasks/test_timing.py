"""A contender's runs by this host's clock, and their parts by the device's own: block by block, and their means."""

from tests.worker.counting import CountingSession

from quantfleet_domain.jobs.measured import Part
from quantfleet_domain.jobs.work import ModelForm
from quantfleet_domain.measurement.protocol import Protocol
from quantfleet_domain.measurement.samples import Samples
from quantfleet_worker.engines.base import Session
from quantfleet_worker.tasks.contenders import Contender
from quantfleet_worker.tasks.timing import Times


def contender(session: Session) -> Contender:
    return Contender(ModelForm("", ()), session, {}, session.run_bound, session.parts_ns)


def test_the_parts_of_every_run_are_kept_block_by_block_beside_its_latency() -> None:
    times, session = Times(), CountingSession()
    for runs in (2, 3):
        times.time(contender(session), runs)
    assert [len(block) for block in times.runs] == [2, 3]
    assert all(latency > 0 for block in times.runs for latency in block)
    assert session.runs == 5
    assert times.parts == {
        "h2d": [(10, 20), (30, 40, 50)],
        "compute": [(100, 200), (300, 400, 500)],
        "d2h": [(1, 2), (3, 4, 5)],
    }


def test_a_part_has_its_mean_over_all_runs_in_the_order_of_a_run() -> None:
    times, session = Times(), CountingSession()
    for runs in (1, 3):
        times.time(contender(session), runs)
    assert times.means() == (Part("h2d", 25e-6), Part("compute", 250e-6), Part("d2h", 2.5e-6))


def test_a_device_without_a_clock_of_its_own_has_no_parts() -> None:
    times = Times()
    times.time(Contender(ModelForm("", ()), CountingSession(), {}, lambda: None), 2)
    assert (times.parts, times.means()) == ({}, ())


def test_what_is_timed_fits_the_raw_samples_of_its_protocol() -> None:
    protocol, times = Protocol("runtime", warmup=0, repeat=5, blocks=2), Times()
    session = CountingSession()
    for turn in protocol.turns(["int8"]):
        times.time(contender(session), turn.runs)
    parts = {name: tuple(blocks) for name, blocks in times.parts.items()}
    samples = Samples(protocol, {"int8": tuple(times.runs)}, {"int8": parts})
    assert sum(len(block) for block in samples.parts["int8"]["compute"]) == 5
