import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brownfield.model.process.frames import (
    ERROR,
    HELLO,
    MAX_FRAME_BYTES,
    REQUEST,
    RESPONSE,
    Decoder,
    FrameError,
    encode_message,
    encode_tensors,
)

NUMBERS = hnp.arrays(
    dtype=st.sampled_from(
        [np.dtype(code) for code in ("f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")]
    ),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
TEXTS = st.lists(st.text(max_size=5), max_size=4).map(lambda texts: np.array(texts, dtype=object))
ARRAYS = st.lists(st.one_of(NUMBERS, TEXTS), max_size=4)


@given(ARRAYS, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_tensors_arrive_as_they_were_sent(arrays, request_id, stamp, call_rows) -> None:
    """Every type, shape and value that may travel arrives bit by bit, with its identifier."""
    [frame] = Decoder().feed(b"".join(encode_tensors(REQUEST, request_id, stamp, arrays, call_rows)))
    assert (frame.kind, frame.request_id, frame.stamp, frame.call_rows) == (REQUEST, request_id, stamp, call_rows)
    arrived = frame.tensors()
    assert [array.shape for array in arrived] == [array.shape for array in arrays]
    for sent, got in zip(arrays, arrived, strict=True):
        assert got.dtype == sent.dtype
        assert got.tolist() == sent.tolist() if sent.dtype == object else got.tobytes() == sent.tobytes()


@given(st.lists(ARRAYS, min_size=1, max_size=3), st.data())
def test_frames_survive_every_cut(many, data) -> None:
    """However the bytes are cut into pieces, the same frames come out in the same order."""
    sent = b"".join(b"".join(encode_tensors(RESPONSE, n, 0, arrays)) for n, arrays in enumerate(many))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    decoder = Decoder()
    frames = [
        frame
        for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)
        for frame in decoder.feed(sent[start:end])
    ]
    assert [frame.request_id for frame in frames] == list(range(len(many)))
    assert [len(frame.tensors()) for frame in frames] == [len(arrays) for arrays in many]


def test_one_byte_at_a_time_is_enough() -> None:
    """A frame that comes byte by byte is complete at its last byte and not before."""
    sent = b"".join(encode_tensors(REQUEST, 1, 0, [np.arange(5.0)]))
    decoder = Decoder()
    assert [len(decoder.feed(sent[at : at + 1])) for at in range(len(sent))] == [0] * (len(sent) - 1) + [1]


@given(st.binary(max_size=200))
def test_f08_random_bytes_are_refused_or_awaited(garbage) -> None:
    """F-08: random bytes give frames, nothing, or a FrameError, and never anything else."""
    _read_all(Decoder(2**16), garbage)


@pytest.mark.full
@given(ARRAYS, st.data())
@settings(max_examples=300)
def test_f08_damaged_frames_are_refused_or_read(arrays, data) -> None:
    """F-08: a frame with damaged bytes gives arrays, nothing, or a FrameError, and never anything else."""
    sent = bytearray(b"".join(encode_tensors(REQUEST, 1, 0, arrays)))
    for _ in range(data.draw(st.integers(1, 4))):
        sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.sampled_from([0, 1, 2, 127, 128, 255]))
    _read_all(Decoder(2**20), bytes(sent))


def _read_all(decoder: Decoder, data: bytes) -> None:
    try:
        for frame in decoder.feed(data):
            if frame.kind in (HELLO, ERROR):
                frame.message()
            else:
                frame.tensors()
    except FrameError:
        pass


def test_f08_a_claimed_length_takes_no_memory() -> None:
    """F-08: a header that announces gigabytes is refused over the cap, and below it takes no memory in advance."""
    claim = (2**31).to_bytes(4, "little") + bytes(28)
    with pytest.raises(FrameError):
        Decoder(2**20).feed(claim)
    tracemalloc.start()
    Decoder(2**32).feed(claim)
    assert tracemalloc.get_traced_memory()[1] < 2**16
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0, 33), (4, 255), (24, 9), (26, 2), (32, 99), (33, 17), (36, 7), (40, 200)],
    ids=["length", "description", "kind", "count", "type", "dimensions", "size", "shape"],
)
def test_f08_each_part_of_a_header_is_checked(offset, value) -> None:
    """F-08: a frame whose length, description, kind, count, type, dimensions, size or shape is wrong is refused."""
    sent = bytearray(b"".join(encode_tensors(REQUEST, 1, 0, [np.arange(4.0)])))
    sent[offset] = value
    with pytest.raises(FrameError):
        Decoder().feed(bytes(sent))


def test_f08_no_more_is_read_of_a_description_than_there_may_be_tensors() -> None:
    """F-08: a long row of descriptions is refused at the first that is too many, by its frame or by the receiver."""
    many = b"".join(encode_tensors(RESPONSE, 1, 0, [np.zeros(0, "f4")] * 5000))
    assert len(Decoder().feed(many)) == 1
    decoder = Decoder()
    decoder.max_tensors = 2
    with pytest.raises(FrameError, match="more tensors than may come"):
        decoder.feed(many)
    with pytest.raises(FrameError, match="more tensors than there are"):
        decoder.feed(many[:26] + (2).to_bytes(2, "little") + many[28:])


@pytest.mark.parametrize("text", [b"[" * 500_000, b'{"code": "' + b"x" * 2**20 + b'"}'], ids=["deep", "long"])
def test_f08_a_message_is_read_in_no_time_or_refused(text) -> None:
    """F-08: a message is no deeper than it can be read and no longer than a greeting needs."""
    frame = bytearray(encode_message(ERROR, 1, {}))[:32] + text + b" " * (-len(text) % 8)
    frame[:4] = len(frame).to_bytes(4, "little")
    with pytest.raises(FrameError):
        Decoder().feed(bytes(frame))[0].message()


def test_data_begin_at_addresses_that_numbers_like() -> None:
    """Tensors of several sizes in several frames lie at multiples of eight bytes, so that no copy is needed."""
    arrays = [np.ones(3, "u1"), np.ones(1, "f8"), np.ones((1, 3), "f2")]
    sent = b"".join(b"".join(encode_tensors(REQUEST, n, 0, arrays)) for n in range(3))
    for frame in Decoder().feed(sent):
        assert all(array.flags.aligned for array in frame.tensors())


def test_what_cannot_travel_is_said_at_the_sender() -> None:
    """Complex numbers, foreign byte order, objects that are no text and half a character are refused at once."""
    half = np.array(["caf\udce9"], dtype=object)
    for array in (np.ones(1, "c8"), np.ones(1, ">f4"), np.array([None], dtype=object), half, half.astype("U")):
        with pytest.raises(FrameError):
            encode_tensors(REQUEST, 1, 0, [array])


def test_nothing_is_sent_that_the_other_side_would_not_take() -> None:
    """The longest frame that a decoder admits can be made; one that is longer by a byte is refused at the sender."""
    fits = np.zeros(MAX_FRAME_BYTES - 48, "u1")
    assert Decoder().feed(bytes(encode_tensors(RESPONSE, 1, 0, [fits])[0])) == []
    for arrays in ([np.zeros(len(fits) + 1, "u1")], [fits, np.zeros(1, "u1")]):
        with pytest.raises(FrameError, match="too large"):
            encode_tensors(RESPONSE, 1, 0, arrays)


def test_large_arrays_are_not_copied_into_the_frame() -> None:
    """The buffers of a frame hold the memory of a large array itself."""
    array = np.zeros(10**6, "f4")
    assert any(
        isinstance(part, memoryview) and np.shares_memory(np.frombuffer(part, "f4"), array)
        for part in encode_tensors(REQUEST, 1, 0, [array])
    )


def test_a_message_must_be_an_object() -> None:
    """Greetings and errors are JSON objects; anything else in their place is refused."""
    [frame] = Decoder().feed(encode_message(HELLO, 0, {"pid": 1}))
    assert frame.message() == {"pid": 1}
    damaged = encode_message(HELLO, 0, {"pid": 1}).replace(b"{", b"[", 1)
    with pytest.raises(FrameError):
        Decoder().feed(damaged)[0].message()


def test_f08_half_a_surrogate_pair_is_no_text() -> None:
    """F-08: what a model says goes on to others, who could not be sent it."""
    with pytest.raises(FrameError):
        Decoder().feed(encode_message(ERROR, 1, {"message": "no file f\udcfcr Kassen"}))[0].message()
