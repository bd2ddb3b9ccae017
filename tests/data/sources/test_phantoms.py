from cxr_pipeline.data.sources.phantoms import read

OPTIONS = {"n_patients": 4, "size": 32, "prevalence": {"Effusion": 0.5}, "seed": 3}


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "images").iterdir())}


def test_phantoms_are_generated_again_only_with_other_parameters(tmp_path):
    folder = tmp_path / "new" / "phantoms"
    listing = read(folder, **OPTIONS)
    first = contents(folder)
    assert listing.images["patient_id"].nunique() == 4
    assert listing.n_rows == len(listing.images) == len(first)
    assert listing.images[["view", "age", "sex"]].notna().all(axis=None)
    image = folder / listing.images["path"].iloc[0]
    image.write_text("left as it is")
    read(folder, **OPTIONS)
    assert image.read_text() == "left as it is"
    read(folder, **{**OPTIONS, "seed": 4})
    assert contents(folder) != first
    read(folder, **OPTIONS)
    assert contents(folder) == first
    (folder / "phantoms.json").unlink()  # as if the run had been killed
    image.unlink()
    assert read(folder, **OPTIONS).n_missing == 0
    assert contents(folder) == first
