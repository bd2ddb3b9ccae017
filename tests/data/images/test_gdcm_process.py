import errno
import io
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pydicom
import pytest
from dicom_files import dataset, levels, read, with_frame
from pydicom import uid

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images import gdcm_process


@pytest.fixture
def jpeg(encode):
    """A DICOM file with a JPEG."""
    return with_frame(dataset(levels(8), syntax=uid.JPEGBaseline8Bit), encode(levels(8), "JPEG"))


@pytest.fixture(autouse=True)
def start(monkeypatch):
    """Start decoders that the next images use, which were sent a signal."""
    monkeypatch.setattr(gdcm_process, "_idle", gdcm_process.SimpleQueue())

    def start_and_kill(*signals):
        decoders = [gdcm_process._Decoder() for _ in signals]
        for decoder, number in zip(decoders, signals, strict=True):
            os.kill(decoder.process.pid, number)
            gdcm_process._idle.put(decoder)

    yield start_and_kill
    gdcm_process._end_all()


def test_a_stream_that_ends_the_decoder_is_refused_and_the_next_image_is_decoded(jpeg, encode):
    frame = encode(levels(8), "JPEG")
    header, table = frame.index(b"\xff\xc4"), frame.rindex(b"\xff\xc4")
    assert header < table
    without_table = frame[:table] + b"\x80" + frame[table + 1 :]
    image = pydicom.dcmread(io.BytesIO(jpeg))
    for _ in range(2):
        with pytest.raises(ImageRefused, match="truncated: truncated or damaged pixel data"):
            read(with_frame(image, without_table))
        assert read(jpeg).shape == (64, 80)


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGXCPU, "too_large: .* 10 s"), (signal.SIGSEGV, "truncated")])
def test_how_the_decoder_ended_is_the_reason(jpeg, number, reason, start):
    start(number)
    with pytest.raises(ImageRefused, match=f"^{reason}"):
        read(jpeg)
    assert read(jpeg).shape == (64, 80)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_decoder_that_was_killed_is_not_the_fault_of_the_image(jpeg, number, start):
    start(number)
    assert read(jpeg).shape == (64, 80)
    gdcm_process._end_all()
    start(number, number)
    with pytest.raises(MemoryError, match="the decoder was killed"):
        read(jpeg)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EAGAIN])
def test_a_decoder_that_cannot_be_started_is_not_the_fault_of_the_image(jpeg, number, monkeypatch):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(gdcm_process.subprocess, "Popen", fail)
    with pytest.raises(MemoryError, match="could not be started"):
        read(jpeg)


def test_threads_decode_at_the_same_time_and_share_the_processes(jpeg, monkeypatch):
    everyone, decode = Barrier(3), gdcm_process.decode

    def decode_together(*arguments):
        everyone.wait(timeout=20)
        return decode(*arguments)

    monkeypatch.setattr(gdcm_process, "decode", decode_together)
    with ThreadPoolExecutor(3) as threads:
        images = list(threads.map(read, [jpeg] * 30))
    assert all((image == images[0]).all() for image in images)
    assert 1 <= gdcm_process._idle.qsize() <= 3


def test_a_process_ends_with_the_one_that_started_it():
    decoder = gdcm_process._Decoder()
    decoder.connection.close()
    assert decoder.process.wait(timeout=20) == 0
