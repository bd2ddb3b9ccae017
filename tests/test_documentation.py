"""The documentation: commands and examples are understood, the tutorial runs, the reference is complete."""

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import click
import pandas as pd
import pytest
import yaml
from demo_projects import FEW_PATIENTS, data, succeeded
from shipped import TASKS, all_parameters

from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.framework.config import TaskParameters
from cxr_pipeline.framework.invalid_parameters import check_parameters
from cxr_pipeline.pipeline_registry import OTHERS

REPOSITORY = Path(__file__).parents[1]
SINGLE_PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "conf/README.md")]
PAGES = {str(page.relative_to(REPOSITORY)): page for page in [*SINGLE_PAGES, *REPOSITORY.glob("docs/**/*.md")]}
FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", flags=re.MULTILINE | re.DOTALL)
LANGUAGES = {"bash", "text", "python", "yaml", "json", "ini", "crontab", "powershell", "dockerfile"}
# A task of the examples that is not part of the project, and a variable that an example sets.
EXAMPLE = "pneumothorax"
IMAGES = "raw=/data/images,effusion.training.fine_tuning.epochs=0"
# test_airflow.py runs the commands of Airflow; the syntax of all others is checked with bash.
OTHER_PROGRAMS = {"airflow", "base64", "cd", "curl", "docker", "export", "git", "pre-commit", "rm", "."}


def blocks(page, *languages):
    return [text for _, language, text in FENCE.findall(page.read_text("utf-8")) if language in languages]


def commands_of(page):
    """Return the words of each command in the shell blocks of a page, without variables before it."""
    commands = []
    for text in blocks(page, "bash"):
        for line in re.sub(r"[|\\]\n", " ", text).replace("$IMAGES", IMAGES).splitlines():
            words = shlex.split(line.replace("(echo", "echo"), comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                del words[0]
            if words and words[0] != "echo":
                commands.append(words)
    return commands


SHELL = {f"{name}: {' '.join(words)[:90]}": words for name, page in PAGES.items() for words in commands_of(page)}
TUTORIAL = commands_of(PAGES["docs/tutorial.md"])


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_blocks_name_their_language_and_can_be_parsed(page):
    assert {language for _, language, _ in FENCE.findall(page.read_text("utf-8"))} <= LANGUAGES
    for text in blocks(page, "bash"):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    for text in blocks(page, "python"):
        ast.parse(text)
    for text in blocks(page, "yaml"):
        for name, block in yaml.safe_load(text).items():
            if name in (*TASKS, EXAMPLE):
                base = dict(all_parameters()["effusion" if name == EXAMPLE else name])
                if name == EXAMPLE:
                    del base["task"], base["sources"]
                    block["task"]["name"] = name
                TaskParameters.model_validate(lay_over(base, block))


@pytest.mark.parametrize("words", SHELL.values(), ids=SHELL)
def test_a_command_is_understood(words, monkeypatch):
    program, *arguments = words
    program = program.removeprefix(".venv/bin/").removeprefix(".venv-airflow/bin/")
    if program == "kedro":
        check_kedro(arguments, monkeypatch)
    elif program == "make":
        targets = re.findall(r"^([\w.-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
        assert {word for word in arguments if "=" not in word} <= set(targets)
    elif program == "mlflow":
        parse(importlib.import_module("mlflow.cli").cli, words)
    elif program == "dask":
        parse(importlib.import_module(f"distributed.cli.dask_{arguments[0]}").main, arguments)
    elif program == "python" and arguments[0].endswith(".py"):
        script = (REPOSITORY / arguments[0]).read_text()
        assert [word for word in arguments if word.startswith("--") and word not in script] == []
    elif program == "python":
        assert arguments[0] == "-m" or ast.parse(arguments[arguments.index("-c") + 1])
    else:
        assert program in OTHER_PROGRAMS


@cache
def kedro_commands():
    from kedro.framework.cli.cli import KedroCLI

    return KedroCLI(REPOSITORY)


def check_kedro(arguments, monkeypatch):
    """Parse a kedro command; check the pipeline and the parameters of a run."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(click.Path, "convert", lambda self, value, *_: value)
    command, given = parse(kedro_commands(), ["kedro", *(word.replace(EXAMPLE, "effusion") for word in arguments)])
    if command.name != "run" or "params" not in given:
        return
    task, _, other = (given["pipeline"] or "").partition("_")
    assert task in (*TASKS, "comparison", "")
    assert other in (*OTHERS, "")
    params = given["params"] or {}
    task = task if task in TASKS else None
    check_parameters(lay_over(all_parameters(given["env"] or "base"), params), params, task)


def parse(command, words):
    """Parse the arguments of a click command or of a command in a group; return the command and its values."""
    for option in command.params:
        option.callback = None if option.name == "config" else option.callback  # it would read the file
    context = command.make_context(words[0], words[1:])
    if isinstance(command, click.Group) and (rest := [*context._protected_args, *context.args]):
        name, member, rest = command.resolve_command(context, rest)
        return parse(member, [name, *rest])
    return command, context.params


def test_links_of_pages_outside_of_the_site_lead_somewhere():
    for page in SINGLE_PAGES:
        targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8"))
        assert [name for name in targets if "://" not in name and not (page.parent / name).exists()] == []
    assert len(PAGES["README.md"].read_text().splitlines()) <= 120


def test_the_first_run_ends_with_the_command_that_makes_kedro_available():
    printed = subprocess.run(
        ["make", "--no-print-directory", "-n", "run"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert printed.splitlines()[-1].endswith(". .venv/bin/activate'")


def test_every_parameter_and_command_is_in_the_reference():
    specification = importlib.util.spec_from_file_location("build", REPOSITORY / "docs" / "build.py")
    build = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(build)
    rows = [
        row
        for name, block in TaskParameters.model_fields.items()
        if name != "sources"
        for row in build.rows_of(block.annotation, all_parameters()["effusion"][name])
    ]
    assert [name for name, *_, meaning in rows if not meaning] == []
    page = build.parameters()
    assert [name for name, *_ in rows if f"| {name} | " not in page] == []
    assert "| `rotation` | number, from 0 to 180 | `7` | degrees | largest angle. |" in page
    assert "| `size` | integer, from 16 to 2048 | `224` | pixels | side of the prepared image;" in page
    assert {"kedro run", "kedro fetch", "kedro task new"} <= set(re.findall(r"^## (.+)$", build.commands(), flags=re.M))


def test_the_external_evaluation_prints_metrics_with_intervals(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = [f"{number}.png" for number in range(40)]
    decisions = ["pneumonia", "normal"] * 20
    scored = pd.DataFrame({"image": images, "probability": [0.9, 0.2] * 20, "decision": decisions, "status": "scored"})
    scored.to_csv("predictions.csv", index=False)
    patients = [str(number // 2) for number in range(40)]
    pd.DataFrame({"image": images, "label": [*decisions[1:], "normal"], "patient": patients}).to_csv("labels.csv")
    (program,) = blocks(PAGES["docs/guides/external.md"], "python")
    exec(compile(program, "external.md", "exec"), {})
    assert re.search(r"sensitivity +0\.0+ +0\.0+ +0\.\d+", capsys.readouterr().out)


@pytest.mark.slow
def test_the_tutorial_runs(demo_copy, kedro):
    kedro_words = [words[1:] for words in TUTORIAL if words[0] == "kedro" and words[1] not in ("viz", "mlflow")]
    assert len(kedro_words) == 5
    for words in kedro_words:
        few = [f"{word},{FEW_PATIENTS}" if "epochs" in word else word for word in words]
        succeeded(kedro(demo_copy.folder, *few))
    assert (data(demo_copy.folder) / "08_reporting" / "leaderboard.html").exists()
    assert len(pd.read_csv(data(demo_copy.folder) / "07_model_output/effusion/predictions.csv")) > 40
    # Trained for two epochs, the version does not reach the floors.
    succeeded(kedro(demo_copy.folder, "promote", "effusion", "1", "--env", "demo"))
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed, so the server was not asked")
    serve, ask = (text.replace("5001", "5987") for text in blocks(PAGES["docs/tutorial.md"], "bash")[-3:-1])
    activated = f"PATH={Path(sys.executable).parent}:$PATH\n"
    server = subprocess.Popen(
        ["bash", "-c", activated + serve.replace("\nmlflow", "\nexec mlflow")], cwd=demo_copy.folder
    )
    try:
        answer, deadline = "", time.monotonic() + 180
        while "predictions" not in answer and server.poll() is None and time.monotonic() < deadline:
            time.sleep(1)
            answer = subprocess.run(["bash", "-c", ask], cwd=demo_copy.folder, capture_output=True, text=True).stdout
        assert '"probability"' in answer
    finally:
        server.terminate()
        server.wait(30)
