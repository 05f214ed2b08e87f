"""The protocol between service and GPU child: what every message looks like on the socket."""

import contextlib
import socket
import struct
import threading
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.gpu.protocol import (
    CATALOGUE,
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    PREFIX_BYTES,
    Begun,
    Cancel,
    Done,
    Failed,
    Generate,
    Load,
    LoadFailed,
    Loading,
    ProtocolError,
    Ready,
    Step,
    Stopped,
    decode,
    encode,
    lengths,
    receive,
)

MESSAGES = [
    Load(
        "consumer.gpu.diffusion:DiffusionPipeline",
        "builtin",
        None,
        "auto",
        "auto",
        "/d",
        ["1280x720"],
    ),
    Generate("job-1", "日没", 1280, 720, 2**53 - 1, 8, 0.0),
    Cancel("job-1"),
    Loading("fetching"),
    Ready(
        "builtin",
        "scenes-1",
        "ZImagePipeline",
        "cuda:0",
        "AMD Instinct MI300X",
        "rocm 7.2",
        "bfloat16",
        1.5,
        1,
        {"torch": "2.13.0"},
        "gfx942",
        "0000:c1:00.0",
        {"total": 205_822_885_888},
        ["1280x720"],
    ),
    LoadFailed("There is no such model.", permanent=True),
    Begun("job-1", "vae_decode"),
    Step("job-1", 3, 8),
    Done("job-1", 1280, 720, 8, {"denoise": 1.25}, {"peak": 2**34}),
    Stopped("job-1", 3),
    Failed("job-1", "nan_output", "no numbers"),
]
SNAPSHOTS = list(
    zip(
        MESSAGES,
        (Path(__file__).parent / "snapshots" / "gpu_protocol.jsonl").read_bytes().splitlines(),
        strict=True,
    )
)
"""Each message with its header, a line each."""
IDS = [type(message).__name__ for message in MESSAGES]


@pytest.mark.parametrize(("message", "header"), SNAPSHOTS, ids=IDS)
def test_the_frame_of_every_message(message, header):
    """Two lengths, then the header: what stands on the socket is what stands here."""
    assert encode(message) == struct.pack(">II", len(header), 0) + header
    with_payload = encode(message, 2_764_800)
    assert with_payload[:PREFIX_BYTES] == struct.pack(">II", len(header), 2_764_800)


@pytest.mark.parametrize(("message", "header"), SNAPSHOTS, ids=IDS)
def test_every_message_is_read_back_as_it_was(message, header):
    """Nothing of a message is lost on the way."""
    assert decode(header) == message


def test_every_message_of_the_catalogue_has_its_snapshot():
    """A message that is added is shown here too."""
    assert sorted(CATALOGUE) == sorted(IDS)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"noise on standard output\n",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b'{"kind": "Explode"}',
        b'{"kind": ["Step"]}',
        b'{"kind": "Step"}',
        b'{"kind": "Cancel", "id": "job-1", "more": 1}',
        b'{"kind": "Cancel", "id": "\xff"}',
        b"[" * 100_000,
    ],
    ids=lambda header: repr(header[:40]),
)
def test_garbage_is_a_protocol_error(header):
    """What is no message of the catalogue has one name, whatever it is."""
    with pytest.raises(ProtocolError):
        decode(header)


@given(st.binary())
@example(b'{"kind": "Stopped", "id": "job-1", "step": 3}')
def test_any_bytes_are_a_message_or_a_protocol_error(header):
    """No bytes bring anything else out of the decoder."""
    with contextlib.suppress(ProtocolError):
        assert type(decode(header)).__name__ in CATALOGUE


@pytest.mark.parametrize(
    ("header", "payload"),
    [(MAX_HEADER_BYTES + 1, 0), (0, MAX_PAYLOAD_BYTES + 1), (2**32 - 1, 2**32 - 1)],
)
def test_an_oversized_frame_is_a_protocol_error(header, payload):
    """A length beyond what we send is refused before a byte is reserved for it."""
    with pytest.raises(ProtocolError, match=f"a frame of {header} \\+ {payload} bytes"):
        lengths(struct.pack(">II", header, payload))


def test_the_largest_frame_is_within_the_limits():
    """The limits themselves are legal, and the largest picture is far below them."""
    largest = (MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES)
    assert lengths(struct.pack(">II", *largest)) == largest
    assert MAX_PAYLOAD_BYTES > 1536 * 1536 * 3


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_frames_are_found_one_after_the_other(pair):
    """The reader takes exactly one frame, its payload too, and then the next."""
    ours, theirs = pair
    ours.sendall(encode(Cancel("a")) + encode(Cancel("b"), 3) + b"xyz" + encode(Cancel("c")))
    assert [receive(theirs).id for _ in range(3)] == ["a", "b", "c"]


def test_a_frame_may_come_in_pieces(pair):
    """A socket hands over bytes as it likes: the frame is put together."""
    ours, theirs = pair

    def trickle():
        for byte in encode(Cancel("a")):
            ours.sendall(bytes([byte]))

    sender = threading.Thread(target=trickle)
    sender.start()
    assert receive(theirs) == Cancel("a")
    sender.join()


@pytest.mark.parametrize("sent", [b"", encode(Cancel("a"))[:5], encode(Cancel("a"))[:-1]])
def test_a_closed_socket_is_the_end(pair, sent):
    """A peer that is gone, between frames or within one, is an EOFError and no message."""
    ours, theirs = pair
    ours.sendall(sent)
    ours.close()
    with pytest.raises(EOFError):
        receive(theirs)
