from cxr_pipeline.training.callbacks import epoch_callback, run_epoch_callbacks


def test_callbacks_get_the_rows_of_their_context() -> None:
    outer: list[dict] = []
    inner: list[dict] = []
    run_epoch_callbacks({"epoch": 0})
    with epoch_callback(outer.append):
        run_epoch_callbacks({"epoch": 1})
        with epoch_callback(inner.append):
            run_epoch_callbacks({"epoch": 2})
        run_epoch_callbacks({"epoch": 3})
    run_epoch_callbacks({"epoch": 4})
    assert [row["epoch"] for row in outer] == [1, 2, 3]
    assert [row["epoch"] for row in inner] == [2]
