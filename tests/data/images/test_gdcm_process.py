import io
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

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
