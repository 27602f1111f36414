"""The commands that ask a coordinator, against a real one that a command serves."""

from pathlib import Path

import pytest
from tests.client.cli.conftest import Run


def test_a_token_is_made_listed_and_revoked(admin: dict[str, str], run: Run) -> None:
    made = run("token", "create", "--node", "t4-01", "--ttl", "90s", "--json").json
    assert made["token"].startswith("qf1-")
    states = {token["token_id"]: token["state"] for token in run("token", "list", "--json").json}
    assert states[made["token_id"]] == "open"
    assert run("token", "revoke", made["token_id"]).code == 0
    assert f"{made['token_id']}" in run("token", "list").out
    states = {token["token_id"]: token["state"] for token in run("token", "list", "--json").json}
    assert states[made["token_id"]] == "revoked"


def test_a_token_is_printed_as_the_command_that_redeems_it(admin: dict[str, str], run: Run) -> None:
    assert "\nquantfleet worker join qf1-" in run("token", "create", "--node", "a").out
    assert "\nquantfleet login qf1-" in run("user", "create", "anna").out


def test_wrong_uses_of_token_create_are_told(admin: dict[str, str], run: Run) -> None:
    for words in (
        ["token", "create"],
        ["token", "create", "--node", "a", "--user", "b"],
        ["token", "create", "--node", "a", "--role", "admin"],
        ["token", "create", "--user", "a", "--role", "king"],
        ["token", "create", "--node", "a", "--ttl", "soon"],
        ["token", "create", "--node", "a/b"],
        ["token", "revoke", "nonesuch"],
    ):
        assert run(*words).code == 2, words


def test_a_user_logs_in_may_what_the_role_says_and_is_expelled(admin: dict[str, str], run: Run, tmp_path: Path) -> None:
    token = run("user", "create", "vera", "--role", "viewer", "--json").json["token"]
    mine = tmp_path / "vera"
    assert "you are vera in fleet quantfleet" in run("login", token, "--credentials", mine).out
    assert run("job", "list", "--credentials", mine).code == 0
    refused = run("token", "list", "--credentials", mine)
    assert refused.code == 5
    assert "needs the role admin" in refused.err
    assert run("login", token, "--credentials", tmp_path / "thief").code == 5
    users = {user["name"]: user for user in run("user", "list", "--json").json}
    assert (users["vera"]["role"], users["vera"]["state"]) == ("viewer", "active")
    assert run("user", "revoke", "vera").code == 0
    assert run("job", "list", "--credentials", mine).code == 5


def test_a_node_joins_is_cordoned_drained_and_revoked(admin: dict[str, str], run: Run, tmp_path: Path) -> None:
    token = run("token", "create", "--node", "n1", "--json").json["token"]
    assert "joined fleet quantfleet as node n1" in run("worker", "join", token, "--state", tmp_path / "n1").out
    assert run("login", token).code == 2  # a token of the other purpose

    def state() -> str:
        return str(next(node["state"] for node in run("node", "list", "--json").json if node["name"] == "n1"))

    assert state() == "enrolled"
    for words, after in ((["cordon"], "cordoned"), (["uncordon"], "enrolled"), (["drain"], "drained")):
        assert run("node", *words, "n1").code == 0
        assert state() == after
    assert "n1" in run("node", "list").out
    assert run("node", "revoke", "n1", "--json").json == {"node": "n1", "certificates": 1}
    assert run("node", "cordon", "nonesuch").code == 2


def test_a_pool_is_defined_and_a_wrong_selector_is_told_with_its_column(admin: dict[str, str], run: Run) -> None:
    assert run("pool", "put", "big", "logical_cores >= 32").code == 0
    assert {"name": "big", "selector": "logical_cores >= 32"} in run("pool", "list", "--json").json
    ran = run("pool", "put", "bad", "logical_core >= 32")
    assert ran.code == 2
    assert "column 1" in ran.err
    assert "'logical_cores'" in ran.err


def test_the_audit_log_says_who_did_it(admin: dict[str, str], run: Run) -> None:
    run("pool", "put", "audited", "kind == cpu")
    entry = run("audit", "--json").json[-1]
    assert (entry["actor"], entry["action"], entry["subject"]) == ("user/admin", "pool.put", "audited")
    assert run("audit", "--after", entry["sequence"], "--json").json == []
    assert "pool.put" in run("audit").out


def test_a_dry_run_plans_and_leaves_no_job(admin: dict[str, str], run: Run, job_file: Path) -> None:
    before = run("job", "list", "--json").json
    planned = run("job", "submit", job_file, "--dry-run", "--json").json
    # No node has come yet, so every engine that reads the model is meant.
    assert [task["kind"] for task in planned["tasks"]] == ["inspect", "benchmark", "benchmark", "report"]
    assert planned["job_id"] == ""
    assert run("job", "list", "--json").json == before


def test_a_job_is_submitted_explained_cancelled_and_tried_again(
    admin: dict[str, str], run: Run, job_file: Path
) -> None:
    ran = run("job", "submit", job_file)
    assert ran.code == 0
    job = ran.out.strip()
    assert job in run("job", "list").out
    assert run("job", "status", job, "--json").json["job"]["state"] == "running"
    assert "m/inspect" in run("job", "explain", job).out
    assert run("job", "logs", job).out == "no attempt has failed\n"
    not_ready = run("job", "report", job, "--out", job_file.parent / "out")
    assert not_ready.code == 5
    assert run("job", "report", job).code == 2
    assert run("job", "cancel", job[:6], "--json").json["state"] == "cancelled"
    watched = run("job", "watch", job)
    assert (watched.code, watched.out) == (1, "cancelled\n")
    assert run("job", "explain", job).out == "every task has ended\n"
    assert run("job", "retry", job, "--json").json["state"] == "running"
    assert run("job", "cancel", job).code == 0


def test_a_pool_that_is_not_there_is_told_when_submitting(admin: dict[str, str], run: Run, job_file: Path) -> None:
    job_file.write_text(job_file.read_text() + "targets: [{pool: nonesuch}]\n")
    ran = run("job", "submit", job_file)
    assert ran.code == 2
    assert "no pool is called 'nonesuch'" in ran.err


def test_a_job_that_is_not_there_is_told(admin: dict[str, str], run: Run) -> None:
    for words in (["status"], ["watch"], ["explain"], ["logs"], ["cancel"], ["retry"]):
        assert run("job", *words, "nonesuch").code == 2


def test_a_coordinator_that_is_gone_is_unreachable(served: dict[str, str], run: Run, tmp_path: Path) -> None:
    credentials = tmp_path / "moved"
    current = credentials / "current"
    current.mkdir(parents=True, mode=0o700)
    for file in (Path(served["credentials"]) / "current").iterdir():
        (current / file.name).touch(mode=0o600)
        (current / file.name).write_bytes(file.read_bytes())
    (current / "address").write_text("127.0.0.1:9\n")
    ran = run("job", "list", "--credentials", credentials)
    assert ran.code == 4
    assert "127.0.0.1:9" in ran.err


def test_the_admins_credentials_are_found_on_the_coordinators_host(
    served: dict[str, str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QUANTFLEET_CREDENTIALS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (tmp_path / "quantfleet").mkdir()
    (tmp_path / "quantfleet" / "coordinator").symlink_to(Path(served["credentials"]).parent)
    assert run("job", "list").code == 0
