"""Puts the configuration into the package, from which ``cxr-pipeline new`` copies it into a new project."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# Not conf/local, which has the keys and passwords of this project.
CONFIGURATION = ("base", "demo", "logging.yml", "airflow_dag.j2", "README.md")


class BuildWithConfiguration(build_py):
    """Builds the package with the folder ``project/conf`` in it."""

    def run(self) -> None:
        """Copy the modules, and then the configuration."""
        super().run()
        if self.editable_mode:  # the configuration is next to the source
            return
        target = Path(self.build_lib, "cxr_pipeline", "project", "conf")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in CONFIGURATION:
            source = Path("conf", name)
            if source.is_dir():
                shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("credentials.yml"))
            else:
                shutil.copy(source, target / name)


setup(cmdclass={"build_py": BuildWithConfiguration})
