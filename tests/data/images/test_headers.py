import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier

import pytest

from cxr_pipeline.data.images.headers import without_warnings


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
