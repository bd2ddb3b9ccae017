from cxr_pipeline.training.callbacks import epoch_callback, run_epoch_callback


def test_a_callback_gets_the_rows_of_its_context() -> None:
    rows: list[dict] = []
    run_epoch_callback({"epoch": 0})
    with epoch_callback(rows.append):
        run_epoch_callback({"epoch": 1})
    run_epoch_callback({"epoch": 2})
    assert rows == [{"epoch": 1}]
