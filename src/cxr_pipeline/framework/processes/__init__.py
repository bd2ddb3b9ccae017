"""Entry points of the processes that run one cell or one trial."""
