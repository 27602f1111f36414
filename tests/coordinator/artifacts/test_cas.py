import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from quantfleet_coordinator.artifacts.cas import ArtifactDirectory
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.content import digest_bytes

CONTENT = random.Random(7).randbytes(3_000_000)
DIGEST = digest_bytes(CONTENT)


@pytest.fixture
def directory(tmp_path: Path) -> ArtifactDirectory:
    return ArtifactDirectory(tmp_path / "artifacts")


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


def interrupted(directory: ArtifactDirectory, received: int) -> None:
    upload = directory.begin(DIGEST, len(CONTENT))
    upload.write(CONTENT[:received])
    upload.abort()


def test_an_artifact_is_there_whole_under_its_digest(directory: ArtifactDirectory, tmp_path: Path) -> None:
    upload = directory.begin(DIGEST, len(CONTENT))
    upload.write(CONTENT[:1000])
    assert not directory.has(DIGEST)
    upload.write(CONTENT[1000:])
    assert not directory.has(DIGEST)
    upload.commit()
    assert directory.has(DIGEST)
    assert directory.path(DIGEST).read_bytes() == CONTENT
    assert directory.size(DIGEST) == len(CONTENT)
    assert list(directory.stored()) == [(DIGEST, len(CONTENT))]
    assert files(tmp_path) == [DIGEST]


def test_small_and_empty_bytes_are_put_at_once(directory: ArtifactDirectory) -> None:
    for content in (b"", b"a\0b"):
        digest = directory.put_bytes(content)
        assert digest == digest_bytes(content) == directory.put_bytes(content)
        assert b"".join(directory.read(digest)) == content


@pytest.mark.parametrize("offset", [0, 1, 1 << 20, len(CONTENT) - 1, len(CONTENT)])
def test_reading_starts_anywhere(directory: ArtifactDirectory, offset: int) -> None:
    directory.put_bytes(CONTENT)
    pieces = list(directory.read(DIGEST, offset))
    assert b"".join(pieces) == CONTENT[offset:]
    assert all(0 < len(piece) <= 1 << 20 for piece in pieces)


def test_reading_beyond_the_end_or_what_is_not_there_is_an_error(directory: ArtifactDirectory) -> None:
    directory.put_bytes(CONTENT)
    with pytest.raises(QuantfleetError) as raised:
        next(directory.read(DIGEST, len(CONTENT) + 1))
    assert raised.value.code is ErrorCode.DIGEST_MISMATCH
    directory.delete(DIGEST)
    directory.delete(DIGEST)
    for call in (lambda: next(directory.read(DIGEST)), lambda: directory.size(DIGEST)):
        with pytest.raises(QuantfleetError) as raised:
            call()
        assert raised.value.code is ErrorCode.ARTIFACT_NOT_FOUND


@pytest.mark.parametrize(
    "digest", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n", "/" + "a" * 63, "*" * 64]
)
def test_what_is_no_digest_never_reaches_the_disk(directory: ArtifactDirectory, digest: str) -> None:
    for call in (
        lambda: directory.begin(digest, 1),
        lambda: directory.has(digest),
        lambda: directory.partial_size(digest),
        lambda: next(directory.read(digest)),
        lambda: directory.delete(digest),
    ):
        with pytest.raises(QuantfleetError) as raised:
            call()
        assert raised.value.code is ErrorCode.USAGE


def test_an_interrupted_upload_goes_on_where_it_stopped(directory: ArtifactDirectory, tmp_path: Path) -> None:
    interrupted(directory, 2_000_000)
    assert directory.partial_size(DIGEST) == 2_000_000
    upload = directory.begin(DIGEST, len(CONTENT), 1_999_990)
    assert upload.received == 1_999_990
    upload.write(CONTENT[1_999_990:])
    upload.commit()
    assert directory.path(DIGEST).read_bytes() == CONTENT
    assert files(tmp_path) == [DIGEST]


def test_a_partial_survives_the_process(directory: ArtifactDirectory, tmp_path: Path) -> None:
    upload = directory.begin(DIGEST, len(CONTENT))
    upload.write(CONTENT[:5])
    again = ArtifactDirectory(tmp_path / "artifacts")
    assert again.partial_size(DIGEST) == 5


def test_an_upload_nobody_holds_any_more_frees_its_partial(directory: ArtifactDirectory, tmp_path: Path) -> None:
    directory.begin(DIGEST, len(CONTENT)).write(CONTENT[:10])
    directory.begin(DIGEST, len(CONTENT), 10).write(CONTENT[10:20])
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    "content",
    [CONTENT[:-1], CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), CONTENT + b"x"],
    ids=["short", "one-bit", "long"],
)
def test_content_that_is_not_the_digest_s_is_refused_and_removed(
    directory: ArtifactDirectory, tmp_path: Path, content: bytes
) -> None:
    upload = directory.begin(DIGEST, len(CONTENT))

    def send() -> None:
        upload.write(content)
        upload.commit()

    with pytest.raises(QuantfleetError) as raised:
        send()
    assert raised.value.code is ErrorCode.DIGEST_MISMATCH
    assert files(tmp_path) == []


def test_a_partial_that_was_damaged_is_found_out(directory: ArtifactDirectory, tmp_path: Path) -> None:
    interrupted(directory, 1000)
    (partial,) = tmp_path.rglob(f"{DIGEST}.*")
    partial.write_bytes(bytes(1000))
    upload = directory.begin(DIGEST, len(CONTENT), 1000)
    upload.write(CONTENT[1000:])
    with pytest.raises(QuantfleetError) as raised:
        upload.commit()
    assert raised.value.code is ErrorCode.DIGEST_MISMATCH
    assert directory.partial_size(DIGEST) == 0


def test_going_on_from_bytes_that_are_gone_is_an_error(directory: ArtifactDirectory) -> None:
    interrupted(directory, 10)
    with pytest.raises(QuantfleetError) as raised:
        directory.begin(DIGEST, len(CONTENT), 11)
    assert raised.value.code is ErrorCode.STORE_FAILED
    for size, offset in ((10, 11), (10, -1), (-1, 0)):
        with pytest.raises(QuantfleetError) as raised:
            directory.begin(DIGEST, size, offset)
        assert raised.value.code is ErrorCode.USAGE


def test_uploads_of_one_artifact_at_once_do_not_harm_each_other(directory: ArtifactDirectory, tmp_path: Path) -> None:
    first = directory.begin(DIGEST, len(CONTENT))
    first.write(CONTENT[:1_500_000])
    second = directory.begin(DIGEST, len(CONTENT), 1_200_000)  # of the first one's bytes, while it goes on
    third = directory.begin(DIGEST, len(CONTENT))
    third.write(b"rubbish")
    first.write(CONTENT[1_500_000:2_000_000])
    second.write(CONTENT[1_200_000:])
    second.commit()
    assert directory.path(DIGEST).read_bytes() == CONTENT
    first.write(CONTENT[2_000_000:])
    first.commit()
    assert directory.path(DIGEST).read_bytes() == CONTENT
    third.abort()
    assert directory.sweep(0.0) == [third.partial]
    assert files(tmp_path) == [DIGEST]


def test_many_threads_uploading_one_artifact_all_succeed(directory: ArtifactDirectory, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def send(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(5):
            try:
                offset = min(directory.partial_size(DIGEST), rng.randrange(len(CONTENT)))
                upload = directory.begin(DIGEST, len(CONTENT), offset)
                while upload.received < len(CONTENT):
                    upload.write(CONTENT[upload.received : upload.received + rng.randrange(1, 700_000)])
                upload.commit()
            except Exception as error:
                # Another upload was committed between asking and going on; a client asks again.
                if not (isinstance(error, QuantfleetError) and "ask how much" in error.todo):
                    failures.append(error)

    threads = [threading.Thread(target=send, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert directory.path(DIGEST).read_bytes() == CONTENT


def test_aborting_after_commit_changes_nothing(directory: ArtifactDirectory) -> None:
    upload = directory.begin(DIGEST, len(CONTENT))
    upload.write(CONTENT)
    upload.commit()
    upload.abort()
    assert directory.has(DIGEST)


def test_stray_partials_are_swept_by_age_and_active_ones_are_not(directory: ArtifactDirectory, tmp_path: Path) -> None:
    interrupted(directory, 10)
    other = digest_bytes(b"other")
    active = directory.begin(other, 5)
    for path in tmp_path.rglob("partial/*"):
        os.utime(path, (1000, 1000))
    assert directory.sweep(1000.0) == []
    assert [path.name[:64] for path in directory.sweep(1001.0)] == [DIGEST]
    active.write(b"other")
    active.commit()
    assert directory.has(other)


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(QuantfleetError) as raised:
        ArtifactDirectory(tmp_path / "file" / "artifacts")
    assert raised.value.code is ErrorCode.STORE_FAILED


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from quantfleet_coordinator.artifacts.cas import ArtifactDirectory
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_wire.content import digest_bytes

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
directory = ArtifactDirectory(Path(sys.argv[1]))
kept = directory.put_bytes(bytes(99_000))
big = bytes(200_000)
upload = directory.begin(digest_bytes(big), len(big))
upload.write(big[:90_000])
try:
    upload.write(big[90_000:])
except QuantfleetError as error:
    assert error.code is ErrorCode.STORAGE_FULL, error
    assert "free space" in error.todo
else:
    raise AssertionError("no error")
assert directory.partial_size(digest_bytes(big)) == 0
assert b"".join(directory.read(kept)) == bytes(99_000)
directory.put_bytes(b"the next one")
print("served on")
"""


def test_a_full_disk_frees_what_arrived_and_the_directory_serves_on(tmp_path: Path) -> None:
    # A limit on the size of files stands in for a full disk: EFBIG for ENOSPC
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert child.stdout == "served on\n", child.stderr
