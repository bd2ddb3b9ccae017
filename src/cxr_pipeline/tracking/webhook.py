"""Messages to a webhook: the champion has changed, or a retraining was stopped.

The webhooks of MLflow are sent by a server only, not from a database file, and know aliases but no decisions.
"""

import logging
import os
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import requests

# The environment variable with the address of the webhook, which usually contains a secret and is never logged.
VARIABLE = "CXR_WEBHOOK"
_SECONDS = 10

_log = logging.getLogger(__name__)


def notify(event: Literal["promoted", "rolled back", "stopped"], model: str, text: str, **details: Any) -> None:
    """Send a message about a registered model as JSON to the webhook, if one is set; a failure only logs a warning.

    The message has ``event``, ``model``, ``text`` (a sentence, which Slack and Mattermost show), ``time`` (UTC)
    and the ``details``. It names no image and no patient.
    """
    url = os.environ.get(VARIABLE)
    if not url:
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    message = {"event": event, "model": model, "text": text, "time": now, **details}
    try:
        host = urlsplit(url).hostname
        requests.post(url, json=message, timeout=_SECONDS).raise_for_status()
    except (requests.RequestException, ValueError) as error:
        # The text of the error would contain the address.
        response = getattr(error, "response", None)
        problem = type(error).__name__ if response is None else f"status {response.status_code}"
        place = f"at {host} " if not isinstance(error, ValueError) else ""
        _log.warning("The webhook %s(%s) was not notified that %s was %s: %s.", place, VARIABLE, model, event, problem)
