from pathlib import Path

import pytest
from tests.opt_in.phones.test_ssh import link
from tests.worker.phones.lite_host import BYTES, Host, model_files, work_of
from tests.worker.phones.lite_models import FLOAT

from quantfleet_worker.phones import watching
from quantfleet_worker.phones.testing import SshServer
from quantfleet_worker.phones.transports.ssh import SshTransport

board = link


def test_a_board_is_measured_over_the_real_ssh_client(
    board: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SETTLING_S", 0.4)
    (tmp_path / "host").mkdir()
    host = Host(tmp_path / "host")
    transport = SshTransport(board.address, str(tmp_path / "board" / "runs"), board.options)
    fp32, int8 = host.benchmark(work_of(host, model_files(tmp_path / "model")), host.phone(transport=transport)).rows
    assert fp32.latency.mean == pytest.approx(BYTES[FLOAT] / 1000, abs=1e-3)
    settings = {setting.name: setting.value for setting in int8.settings}
    assert (settings["transport"], settings["threads"]) == ("ssh", "1")
