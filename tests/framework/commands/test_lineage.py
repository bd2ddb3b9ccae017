from types import SimpleNamespace

import pandas as pd
import pytest
from click.testing import CliRunner

from cxr_pipeline.cli import cli
from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.pseudonyms import VARIABLE, pseudonyms
from cxr_pipeline.framework import config
from cxr_pipeline.framework.commands import lineage as command


@pytest.fixture(autouse=True)
def project_folder(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["effusion", "--images", "x.csv"], "--images needs a version: kedro lineage effusion @champion --images"),
        (["effusion", "--croissant", "x.json"], "--croissant needs a version: kedro lineage effusion @champion"),
        (["effusion", "--patient", "1", "--image", "a" * 64], "Use only one of --patient, --image, --images and"),
    ],
)
def test_errors_name_the_correct_arguments(arguments, message):
    done = CliRunner().invoke(cli, ["lineage", *arguments])
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {message}")


def versions():
    return [SimpleNamespace(model="m", number=n, aliases=("champion",) if n == 2 else ()) for n in (3, 2, 1)]


def test_a_version_is_selected_by_number_or_alias():
    assert [one.number for one in command.choose(versions(), None)] == [3, 2, 1]
    assert [one.number for one in command.choose(versions(), "@champion")] == [2]
    assert [one.number for one in command.choose(versions(), "3")] == [3]
    with pytest.raises(UserError, match=r"m has no version '@chmpion'; expected one of 3, 2, 1, @champion\."):
        command.choose(versions(), "@chmpion")


def test_a_patient_of_dicom_images_is_looked_up_by_its_pseudonym_too(tmp_path):
    table = {"layout": "dicom_folder", "path": "dicom", "table": "t.csv", "columns": {"image": "i", "labels": "l"}}
    sources = config.Sources.model_validate({"dicom": table, "nih": {"layout": "nih", "path": "nih"}})
    key = tmp_path / "patient.key"
    assert command._names_of("4711", sources, key) == ["4711"]
    named = pseudonyms(pd.Series(["4711"], dtype="str"), key)[0]
    assert command._names_of("4711", sources, key) == ["4711", named]
    without_dicom = config.Sources.model_validate({"nih": {"layout": "nih", "path": "nih"}})
    assert command._names_of("4711", without_dicom, key) == ["4711"]
