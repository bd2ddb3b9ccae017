"""Options of the fault tests, which `make test-faults` sets as environment variables."""

import os
from pathlib import Path

SEED = int(os.environ.get("FAULTS_SEED", "1"))
KILLS = int(os.environ.get("FAULTS_KILLS", "4"))
INPUTS = int(os.environ.get("FAULTS_INPUTS", "700"))
# Number of the first kill and of the first input of each reader, to continue or repeat an earlier run.
FIRST = int(os.environ.get("FAULTS_FIRST", "0"))
# Folder for the inputs and the output of failures.
KEPT = Path(os.environ.get("FAULTS_KEPT", "/tmp/cxr-faults"))
