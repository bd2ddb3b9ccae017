"""The package as a wheel, used without its repository."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

NEEDED = ("src", "conf", "setup.py", "MANIFEST.in", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory, request):
    """Folder with the content of the wheel, in which conf/local and credentials must not be."""
    source, wheels = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for name in NEEDED:
        path = request.config.rootpath / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("local", "__pycache__", "*.egg-info"))
        else:
            shutil.copy(path, source)
    (source / "conf" / "local").mkdir()
    for folder in ("local", "base"):
        (source / "conf" / folder / "credentials.yml").write_text("password: secret\n")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir"]  # the sdist, and from it the wheel
    subprocess.run([*build, wheels, source], check=True, capture_output=True)
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        wheel.extractall(wheels / "site")
    return wheels / "site"


def test_an_installed_package_makes_a_project_with_all_pipelines(installed, tmp_path):
    assert not list(installed.rglob("credentials.yml"))
    assert (installed / "cxr_pipeline" / "py.typed").exists()
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def run(*arguments, folder=tmp_path):
        command = [sys.executable, "-m", "cxr_pipeline", *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    made = run("new", "hospital")
    assert made.returncode == 0, made.stderr
    assert "cxr-pipeline run --env demo --pipeline=effusion" in made.stdout
    again = run("new", "hospital")
    assert again.returncode == 1
    assert again.stderr == "Error: hospital is not empty. Give a new folder: cxr-pipeline new DIR\n"
    splits = run(
        *("run", "--env", "demo", "--pipeline=effusion", "--to-outputs=effusion.splits"), folder=tmp_path / "hospital"
    )
    assert splits.returncode == 0, splits.stdout + splits.stderr
    assert (tmp_path / "hospital/data/demo/05_model_input/effusion/splits.parquet").exists()
    assert "- chest14_retraining" in run("registry", "list", folder=tmp_path / "hospital").stdout
