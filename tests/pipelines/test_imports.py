import subprocess
import sys


def test_creating_the_stages_imports_no_heavy_package() -> None:
    """Listing the pipelines of a project must take little time."""
    heavy = {"tensorflow", "keras", "sklearn", "optuna", "matplotlib", "dask"}
    code = (
        "import sys; from importlib import import_module;"
        "stages = ('ablation', 'comparison', 'drift', 'scoring', 'training', 'tuning');"
        "[import_module(f'cxr_pipeline.pipelines.{stage}.pipeline').create_pipeline() for stage in stages];"
        f"print({heavy} & set(sys.modules))"
    )
    called = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert called.stdout.strip() == "set()", called.stderr
