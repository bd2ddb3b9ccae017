import os
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from kedro.framework.session import KedroSession
from kedro_viz.launchers.cli.main import viz_cli

import cxr_pipeline.cli
from cxr_pipeline.framework.commands import viz
from cxr_pipeline.framework.shown_pipelines import OPENED


@pytest.mark.parametrize(
    ("options", "opened"), [([], ""), (["--pipeline=pneumonia"], "pneumonia"), (["-p", "pneumona"], None)]
)
@pytest.mark.parametrize("of_kedro_viz", [viz.run_module.run, viz.build_module.build], ids=["run", "build"])
def test_options_reach_the_process_of_kedro_viz(monkeypatch, tmp_path, of_kedro_viz, options, opened):
    calls = []
    monkeypatch.chdir(tmp_path)
    for name in (OPENED, "KEDRO_ENV", "PYTHONWARNINGS"):
        monkeypatch.setenv(name, "before")
    context = SimpleNamespace(catalog={})
    monkeypatch.setattr("kedro.framework.project.pipelines", ["effusion", "pneumonia"])
    monkeypatch.setattr(KedroSession, "create", lambda **_: SimpleNamespace(load_context=lambda: context))
    monkeypatch.setattr(of_kedro_viz, "callback", lambda **given: calls.append(given))
    assert "cxr_pipeline" in cxr_pipeline.cli.kedro_viz.lazy_subcommands[of_kedro_viz.name]
    ended = CliRunner().invoke(viz_cli, ["viz", of_kedro_viz.name, "--env", "demo", *options])
    if opened is None:
        assert (ended.exit_code, calls) == (1, [])
        assert "There is no pipeline 'pneumona'. Did you mean --pipeline=pneumonia?" in ended.output
    else:
        # No page is written.
        assert ended.exit_code == (1 if of_kedro_viz.name == "build" else 0), ended.output
        assert (os.environ[OPENED], os.environ["KEDRO_ENV"]) == (opened, "demo")
        assert [call.get("pipeline") for call in calls] == [None]
