import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier

import pytest

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.headers import refusing, without_warnings


def test_warnings_are_ignored_in_all_threads_until_the_last_one_leaves():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        inside, first_left = Barrier(2), Barrier(2)

        def leave_first():
            with suppress(ValueError), without_warnings():
                inside.wait(timeout=20)
                raise ValueError
            first_left.wait(timeout=20)

        def leave_last():
            with without_warnings():
                inside.wait(timeout=20)
                first_left.wait(timeout=20)
                warnings.warn("of a header", UserWarning, stacklevel=1)

        with ThreadPoolExecutor(2) as threads:
            for future in [threads.submit(leave_first), threads.submit(leave_last)]:
                future.result()
        assert warnings.filters == before
        with pytest.raises(UserWarning, match="of a header"):
            warnings.warn("of a header", UserWarning, stacklevel=1)


def test_any_error_of_a_decoder_is_a_refusal_except_too_little_memory():
    expected = pytest.raises(ImageRefused, match=r"^unreadable: KeyError of a decoder$")
    with expected as refused, refusing("unreadable", "{kind} of a decoder"):
        raise KeyError("the name of the patient")
    assert refused.value.__cause__ is None
    with pytest.raises(MemoryError), refusing("unreadable", "a damaged file"):
        raise MemoryError
