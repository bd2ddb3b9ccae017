"""The process of a cell before the Kedro run; whole cells run in tests/integration."""

from dataclasses import replace

import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.framework.processes import cell


def test_a_machine_without_the_working_directory_is_an_error(current_run):
    with pytest.raises(UserError, match=r"/gone, cannot be entered on this machine .* same folders"):
        cell.execute(replace(current_run, cwd="/gone"))
