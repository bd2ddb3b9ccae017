"""The project's own commands, in addition to ``kedro run``."""
