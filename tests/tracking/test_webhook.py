import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cxr_pipeline.framework.config import Sources, Task
from cxr_pipeline.pipelines import rollback
from cxr_pipeline.tracking import aliases, promotion_records, webhook


@pytest.fixture
def received(monkeypatch):
    """The messages that the webhook received."""
    messages = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200 if self.path == "/secret" else 403)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever).start()
        monkeypatch.setenv(webhook.VARIABLE, f"http://127.0.0.1:{http.server_port}/secret")
        yield messages
        http.shutdown()


def promote(name, version, over):
    promotion_records.note_reasons(name, version, ["AUC 0.9."])
    aliases.promote(name, version, over=over)
    promotion_records.note_decision(name, version, promoted=True)


def test_a_promotion_a_stop_and_a_rollback_are_sent(received, new_model, monkeypatch):
    name = new_model(3)
    promote(name, 1, None)
    promote(name, 2, 1)
    promotion_records.note_decision(name, 3, promoted=False)
    promotion_records.note_stop(name, ["Too many labels.", "Drift."])
    monkeypatch.setattr(aliases, "model_name", lambda task, *, phantom: name)
    task = Task(name="chest", title="Chest", kind="binary", classes={"well": ("well",), "ill": ("ill",)})
    rollback.roll_back(task, Sources({"images": {"layout": "class_folders", "path": "x"}}))
    texts = [message["text"] for message in received]
    assert texts == [
        f"{name} 1 is the new champion. AUC 0.9.",
        f"{name} 2 is the new champion. AUC 0.9.",
        f"The retraining of {name} was stopped. Too many labels. Drift.",
        f"{name} 1 is the champion again; version 2 is no longer in use.",
    ]
    assert [message["event"] for message in received] == ["promoted", "promoted", "stopped", "rolled back"]
    assert {message["model"] for message in received} == {name}
    assert [(received[n]["version"], received[n]["previous"]) for n in (0, 1, 3)] == [(1, None), (2, 1), (1, 2)]
    assert received[2]["reasons"] == "Too many labels. Drift."


def test_a_promotion_that_was_interrupted_is_sent_when_it_is_finished(received, new_model):
    name = new_model(1)
    promotion_records.note_reasons(name, 1, ["First."], trained_by="7")
    aliases.promote(name, 1, over=None)
    for _ in range(2):
        promotion_records.finish_decision(name, 1)
    assert [message["text"] for message in received] == [f"{name} 1 is the new champion. First."]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("{}/closed", "at 127.0.0.1 (CXR_WEBHOOK) status 403"),
        (
            "http://127.0.0.1:9/secret",
            "at 127.0.0.1 (CXR_WEBHOOK) ConnectionError",
        ),
        ("hooks.example.org/secret", "(CXR_WEBHOOK) MissingSchema"),
        ("http://[/secret", "(CXR_WEBHOOK) ValueError"),
    ],
)
def test_a_failure_is_a_warning_without_the_address(received, monkeypatch, caplog, url, problem):
    monkeypatch.setenv(webhook.VARIABLE, url.format(webhook.os.environ[webhook.VARIABLE].removesuffix("/secret")))
    webhook.notify("promoted", "cxr-x", "cxr-x 1 is the new champion.")
    (record,) = caplog.records
    assert problem.replace(") ", ") was not notified that cxr-x was promoted: ") in record.getMessage()
    assert "secret" not in caplog.text


def test_a_webhook_that_does_not_answer_ends_after_a_while(received, monkeypatch, caplog):
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as silent:
        monkeypatch.setattr(webhook, "_SECONDS", 0.1)
        monkeypatch.setenv(webhook.VARIABLE, f"http://127.0.0.1:{silent.server_port}")
        webhook.notify("stopped", "cxr-x", "Stopped.")
    assert "was not notified that cxr-x was stopped: ReadTimeout." in caplog.text


def test_nothing_is_sent_without_an_address(received, monkeypatch, caplog):
    monkeypatch.delenv(webhook.VARIABLE)
    webhook.notify("stopped", "cxr-x", "Stopped.")
    assert (received, caplog.records) == ([], [])
