"""Log messages of commands on the terminal."""

import logging

from rich import get_console


class LineHandler(logging.Handler):
    """Prints each message as one line, above a progress bar if there is one; Rich's own handler would break paths."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        get_console().print(self.format(record), markup=False, highlight=False, emoji=False, soft_wrap=True)


def log_lines() -> None:
    """Print the messages of the configured handlers by a `LineHandler`, and handle warnings as messages."""
    root = logging.getLogger()
    for handler in root.handlers.copy():
        if type(handler) is logging.StreamHandler:  # not its subclass FileHandler
            lines = LineHandler(handler.level)
            lines.setFormatter(handler.formatter)
            root.removeHandler(handler)
            root.addHandler(lines)
    logging.captureWarnings(True)
