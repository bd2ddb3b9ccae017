import errno
import io
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier

import pydicom
import pytest
from dicom_files import dataset, levels, read, with_frame
from pydicom import uid

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images import gdcm_process


@pytest.fixture
def jpeg(encode):
    """A DICOM file with a JPEG, and the JPEG."""
    frame = encode(levels(8), "JPEG")
    return with_frame(dataset(levels(8), syntax=uid.JPEGBaseline8Bit), frame), frame


def test_a_stream_that_ends_the_decoder_is_refused_and_the_next_image_is_decoded(jpeg):
    content, frame = jpeg
    expected = read(content)
    header, table = frame.index(b"\xff\xc4"), frame.rindex(b"\xff\xc4")
    assert header < table
    without_table = frame[:table] + b"\x80" + frame[table + 1 :]
    image = pydicom.dcmread(io.BytesIO(content))
    for _ in range(2):
        with pytest.raises(ImageRefused, match="truncated: truncated or damaged pixel data"):
            read(with_frame(image, without_table))
        assert (read(content) == expected).all()


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGXCPU, "too_large: .* 10 s"), (signal.SIGSEGV, "truncated")])
def test_how_the_decoder_ended_is_the_reason(jpeg, number, reason, monkeypatch):
    content, _ = jpeg
    decoder = gdcm_process._Decoder()
    monkeypatch.setattr(gdcm_process, "_idle", gdcm_process.SimpleQueue())
    gdcm_process._idle.put(decoder)
    os.kill(decoder._process.pid, number)
    with pytest.raises(ImageRefused, match=f"^{reason}"):
        read(content)
    assert read(content).shape == (64, 80)
    gdcm_process._close_all()


@pytest.fixture
def no_processes(monkeypatch):
    monkeypatch.setattr(gdcm_process, "_idle", gdcm_process.SimpleQueue())
    yield
    gdcm_process._close_all()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_image_is_decoded_again_if_the_decoder_was_killed(jpeg, number, no_processes):
    content, _ = jpeg
    expected = read(content)
    decoder = gdcm_process._idle.get_nowait()
    os.kill(decoder._process.pid, number)
    gdcm_process._idle.put(decoder)
    assert (read(content) == expected).all()


def test_a_decoder_that_is_killed_twice_is_not_the_fault_of_the_image(jpeg, no_processes):
    decoders = [gdcm_process._Decoder() for _ in range(2)]
    for decoder in decoders:
        os.kill(decoder._process.pid, signal.SIGKILL)
        gdcm_process._idle.put(decoder)
    with pytest.raises(MemoryError, match="the decoder was killed"):
        read(jpeg[0])


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EAGAIN])
def test_a_decoder_that_cannot_be_started_is_not_the_fault_of_the_image(jpeg, number, no_processes, monkeypatch):
    content, _ = jpeg

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(gdcm_process.subprocess, "Popen", fail)
        with pytest.raises(MemoryError, match="could not be started"):
            read(content)
    assert read(content).shape == (64, 80)


def test_threads_decode_at_the_same_time(jpeg, monkeypatch):
    everyone, decode = Barrier(3), gdcm_process.decode

    def decode_together(*arguments):
        everyone.wait(timeout=20)
        return decode(*arguments)

    monkeypatch.setattr(gdcm_process, "decode", decode_together)
    with ThreadPoolExecutor(3) as threads:
        assert [image.shape for image in threads.map(read, [jpeg[0]] * 3)] == [(64, 80)] * 3


def test_threads_share_the_processes(jpeg, monkeypatch):
    content, _ = jpeg
    monkeypatch.setattr(gdcm_process, "_idle", gdcm_process.SimpleQueue())
    with ThreadPoolExecutor(3) as threads:
        images = list(threads.map(read, [content] * 30))
    assert all((image == images[0]).all() for image in images)
    assert 1 <= gdcm_process._idle.qsize() <= 3
    processes = []
    with suppress(gdcm_process.Empty):
        while True:
            processes.append(gdcm_process._idle.get_nowait())
    assert [process.close() for process in processes] == [0] * len(processes)


def test_a_process_ends_with_the_one_that_started_it():
    decoder = gdcm_process._Decoder()
    decoder._connection.close()
    assert decoder._process.wait(timeout=20) == 0
