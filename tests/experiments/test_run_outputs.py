import json
from pathlib import Path

import pandas as pd

from cxr_pipeline.experiments.run_outputs import Outputs


def test_the_outputs_of_a_run_are_read(tmp_path: Path) -> None:
    manifest = pd.DataFrame(
        {
            "source": "a",
            "image": [f"{number}.png" for number in range(4)],
            "path": [f"{number}.png" for number in range(4)],
            "sha256": list("abcd"),
            "patient_id": list("ppqq"),
        }
    )
    splits = manifest[["source", "image", "sha256", "patient_id"]].assign(split=["train", "test", "test", "validation"])
    for name, table in {
        "03_primary/t/manifest": manifest,
        "05_model_input/t/splits": splits,
        "07_model_output/t/test_scores": manifest.iloc[1:3],
    }.items():
        (tmp_path / name).parent.mkdir(parents=True)
        table.to_parquet(tmp_path / f"{name}.parquet", index=False)
    for name, document in {"06_models/t/model_version": {"version": 3}, "08_reporting/t/metrics": {"n": 1}}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    outputs = Outputs(tmp_path, "t")
    assert (outputs.version, outputs.metrics) == ({"version": 3}, {"n": 1})
    assert outputs.splits["split"].tolist() == ["train", "test", "test", "validation"]
    assert outputs.test_images["image"].tolist() == outputs.test_scores["image"].tolist() == ["1.png", "2.png"]
    assert "path" in outputs.test_images
