import itertools

from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.common.provenance import git_commit
from cxr_pipeline.experiments import cells
from cxr_pipeline.experiments.jobs import Outcome


def outcome(error=None):
    return Outcome("a cell", error, seconds=3.5, peak_memory_mb=900.0)


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from("pqr"), min_size=1, unique=True), max_size=3))
def test_a_grid_has_every_combination_with_the_last_factor_varying_fastest(factors):
    grid = cells.cross({name: {level: {name: level} for level in levels} for name, levels in factors.items()})
    assert list(grid.items()) == [
        (", ".join(levels), dict(zip(factors, levels, strict=True))) for levels in itertools.product(*factors.values())
    ]


def test_a_folder_has_a_readable_and_valid_name(tmp_path):
    one, two = (cells.cell_folder(tmp_path, "vgg16, not augmented/..", digest * 20) for digest in ("ab", "cd"))
    assert one == tmp_path / "vgg16_not_augmented_-abababababab"
    assert one != two
    long = cells.cell_folder(tmp_path, ", ".join(letter * 58 for letter in "abcde"), "ab" * 20)
    assert len(long.name) < 143
    cells.save_outcome(long, outcome())
    assert cells.is_done(long)


def test_only_a_cell_that_succeeded_is_done(tmp_path):
    assert not cells.is_done(tmp_path)
    cells.save_outcome(tmp_path, outcome("there is no such image"))
    assert not cells.is_done(tmp_path)
    cells.save_outcome(tmp_path, outcome())
    assert cells.is_done(tmp_path)
    (tmp_path / "outcome.json").write_text('{"name": "a cell", "err')
    assert not cells.is_done(tmp_path)


def test_an_outcome_is_loaded_with_its_mlflow_run_and_commit(tmp_path):
    cells.save_outcome(tmp_path, outcome("it diverged"))
    without_run = {"run_id": None, "commit": None, "name": "a cell", "error": "it diverged"}
    assert cells.load_outcome(tmp_path).items() >= without_run.items()
    cells.save_mlflow_run(tmp_path, "7f")
    assert cells.load_outcome(tmp_path).items() >= {"run_id": "7f", "commit": git_commit()}.items()
