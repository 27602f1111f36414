"""The committed code of the messages is what the .proto files say."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2] / "protos"


def test_the_generated_code_is_up_to_date(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHON": sys.executable}
    subprocess.run([ROOT / "generate.sh", tmp_path], check=True, env=environment)
    generated = {path.name: path.read_text() for path in (tmp_path / "quantfleet_protos/v1").iterdir()}
    committed = {path.name: path.read_text() for path in (ROOT / "quantfleet_protos/v1").glob("*_pb2*")}
    assert generated == committed, "run `make protos` and commit what it writes"


def test_every_message_field_and_call_has_a_comment() -> None:
    for path in sorted((ROOT / "quantfleet_protos/v1").glob("*.proto")):
        before = ""
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            text = line.strip()
            declares = text.startswith(("message ", "service ", "rpc ", "oneof ")) or (
                " = " in text and text.endswith(";")
            )
            if declares and not text.startswith(("//", "syntax", "oneof ")):
                assert before.startswith("//"), f"{path.name}:{number} has no comment: {text}"
            before = text
