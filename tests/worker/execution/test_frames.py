"""Frames on a pipe: whole or an error, wherever the stream is cut."""

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantfleet_worker.execution import frames
from quantfleet_worker.execution.frames import Decoder, Frame, FrameError, Kind, encode, receive, send

any_frames = st.lists(st.builds(Frame, st.sampled_from(Kind), st.binary(max_size=50)), max_size=5)


@given(any_frames, st.lists(st.integers(1, 20), max_size=60))
def test_frames_survive_any_cutting_of_the_stream(sent: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(map(encode, sent))
    decoder, received, position = Decoder(), list[Frame](), 0
    for cut in [*cuts, len(stream)]:
        received += decoder.feed(stream[position : position + cut])
        position += cut
    decoder.finish()
    assert received == sent


@given(st.binary(max_size=30), st.data())
def test_a_stream_that_ends_inside_a_frame_is_an_error(payload: bytes, data: st.DataObject) -> None:
    whole = encode(Frame(Kind.RESULT, payload))
    decoder = Decoder()
    assert decoder.feed(whole[: data.draw(st.integers(1, len(whole) - 1))]) == []
    with pytest.raises(FrameError, match="ended inside a frame"):
        decoder.finish()


def test_the_layout_is_length_kind_payload() -> None:
    assert encode(Frame(Kind.RESULT, b"abc")) == b"\0\0\0\3\3abc"


@pytest.mark.parametrize(
    ("header", "reason"), [(b"\xff\xff\xff\xff\1", "claims 4294967295 bytes"), (b"\0\0\0\0\x63", "kind 99")]
)
def test_a_header_that_no_sender_writes_is_an_error(header: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        Decoder().feed(header)


def test_a_payload_above_the_limit_is_refused_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_PAYLOAD_BYTES", 10)
    assert encode(Frame(Kind.LOG, b"x" * 10))
    with pytest.raises(FrameError, match="11 bytes"):
        encode(Frame(Kind.LOG, b"x" * 11))


def test_a_pipe_carries_a_payload_larger_than_its_buffer_and_then_ends() -> None:
    read, write = os.pipe()
    sent = [Frame(Kind.REQUEST, os.urandom(3_000_000)), Frame(Kind.LOG, b"")]

    def write_all() -> None:
        for frame in sent:
            send(write, frame)
        os.close(write)

    writer = threading.Thread(target=write_all)
    writer.start()
    assert [receive(read), receive(read), receive(read)] == [*sent, None]
    writer.join()
    os.close(read)


def test_a_pipe_that_ends_inside_a_frame_is_an_error() -> None:
    read, write = os.pipe()
    os.write(write, encode(Frame(Kind.REQUEST, b"abc"))[:-1])
    os.close(write)
    with pytest.raises(FrameError, match="ended inside a frame"):
        receive(read)
    os.close(read)
