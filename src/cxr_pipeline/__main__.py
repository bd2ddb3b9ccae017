"""The commands ``cxr-pipeline`` and ``kedro``, also ``python -m cxr_pipeline``."""

import os
import sys
from pathlib import Path

from kedro.utils import find_kedro_project

# Commands of Kedro that need no project.
WITHOUT_PROJECT = ("info", "new", "starter")


def main() -> None:
    """Run Kedro's command line for the project in the working directory or in a folder above it.

    Kedro itself uses ``conf/logging.yml`` in the working directory only.
    """
    project, command = find_kedro_project(Path.cwd()), next(iter(sys.argv[1:]), "--help")
    if command == "new" and Path(sys.argv[0]).name != "kedro":
        from cxr_pipeline.framework.commands.project import new
        from cxr_pipeline.framework.exit import clean_exit

        with clean_exit():
            new(sys.argv[2:], prog_name="cxr-pipeline new")
    if project is None and command not in WITHOUT_PROJECT and not command.startswith("-"):
        print(
            f"Error: {Path.cwd()} is not in a Kedro project. Change to the folder of a project (cd FOLDER), or make "
            "one: cxr-pipeline new DIR",
            file=sys.stderr,
        )
        sys.exit(2)
    if project is not None and (configuration := project / "conf" / "logging.yml").is_file():
        os.environ.setdefault("KEDRO_LOGGING_CONFIG", str(configuration))
    # Imported here, because Kedro sets up logging when it is imported.
    from kedro.framework.cli import main as kedro

    kedro()


if __name__ == "__main__":
    main()
