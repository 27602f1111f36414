"""A job with calibrator auto and corrected biases, from submission to report."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.coordinator.jobs.fleet_play import Play, ended, join, working
from tests.coordinator.jobs.made_up_sums import BEST_CANDIDATE
from tests.coordinator.jobs.scripted_node import ScriptedNode, job_spec, submit

from quantfleet_coordinator.testing import LocalFleet
from quantfleet_domain.calibration.calibrators import CALIBRATORS
from quantfleet_domain.calibration.correction import CHECKPOINTS, Corrections
from quantfleet_domain.jobs.spec import JobSpec
from quantfleet_protos.v1 import control_pb2
from quantfleet_wire.identity_files import load_credentials
from quantfleet_wire.transfer import fetch_bytes


def auto(shards: int) -> JobSpec:
    spec = job_spec(evaluate=False, shards=shards)
    (model,) = spec.models
    assert model.calibration is not None
    return replace(spec, models=(replace(model, calibration=replace(model.calibration, calibrator="auto")),))


def test_auto_scores_chooses_and_corrects_and_the_report_says_how(play: Play) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        found = []
        for shards in (1, 3):
            job = await submit(fleet, auto(shards))
            before = len(node.done)
            async with working(node):
                assert (await ended(fleet, job)).job.state == "succeeded"
            kinds = Counter(task.split("/")[1] for task, _ in node.done[before:])
            assert kinds["correct"] == shards * (1 + CHECKPOINTS)
            # Fewer samples were held back than there may be shards: such a shard is no node's work.
            assert 1 <= kinds["score"] <= shards
            answer = await fleet.control.GetReport(control_pb2.GetReportRequest(job_id=job))
            found.append(json.loads(await fetch_bytes(fleet.artifacts, answer.report.digest))["calibration"])
        first, second = found
        best = list(CALIBRATORS)[BEST_CANDIDATE - 1]  # the table of auto itself is the first candidate
        assert (first["calibrator"], first["chosen"]) == ("auto", best)
        assert max(first["scores"], key=first["scores"].get) == best
        assert set(first["scores"]) == {"auto", *CALIBRATORS}
        done = first["bias_correction"]
        assert (done["samples"], done["layers"], done["stages"]) == (12, 1, 1 + CHECKPOINTS)
        assert first["scales_sha256"] == second["scales_sha256"]
        assert done["sha256"] == second["bias_correction"]["sha256"]
        corrections = Corrections.from_json(await fetch_bytes(fleet.artifacts, done["sha256"]))
        assert corrections.scales == first["scales_sha256"]
        assert [layer.delta for layer in corrections.of("u8s8").layers] == [(1 / 8 + CHECKPOINTS / 16,)]

    play(scenario)


def test_a_restart_between_stages_leaves_the_same_corrections(play: Play, tmp_path: Path) -> None:
    async def scenario(fleet: LocalFleet) -> None:
        node = await join(fleet, "n1")
        digests = set()
        for stopped_at in ("", "net/correct/2/1"):
            job = await submit(fleet, auto(2))
            if stopped_at:
                held = await node.acquire_until(stopped_at)
                await fleet.restart()
                channel = fleet.channel(load_credentials(tmp_path / "node-n1"))
                node = ScriptedNode(channel, node.devices, node.incarnation, node.last_reply)
                assert await node.heartbeat([held]) == []
                await node.complete(held)
            async with working(node):
                assert (await ended(fleet, job)).job.state == "succeeded"
            answer = await fleet.control.GetReport(control_pb2.GetReportRequest(job_id=job))
            report = json.loads(await fetch_bytes(fleet.artifacts, answer.report.digest))
            digests.add(report["calibration"]["bias_correction"]["sha256"])
        assert len(digests) == 1

    play(scenario)
