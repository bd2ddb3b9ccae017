"""Load a folder of DAGs, and run two of them in Airflow's environment.

python dag_states.py FOLDER STUBBED REAL STATUS_FILE RESULT STATUS...: the DAG STUBBED runs once for each status, which
its command reads from STATUS_FILE; the DAG REAL runs once.
"""

import json
import sys
from pathlib import Path

from airflow.dag_processing.dagbag import DagBag

folder, stubbed, real, status_file, result, *statuses = sys.argv[1:]
bag = DagBag(folder)
states = {}
for dag, status in [*((stubbed, status) for status in statuses), (real, "real")]:
    Path(status_file).write_text(status)
    run = bag.dags[dag].test()
    (task,) = run.get_task_instances()
    states[status] = {"run": run.state, "task": task.state, "tries": task.try_number}
dags = {
    name: {
        "schedule": dag.schedule,
        "max_active_runs": dag.max_active_runs,
        "catchup": dag.catchup,
        "tasks": {task.task_id: task.retries for task in dag.tasks},
    }
    for name, dag in bag.dags.items()
}
Path(result).write_text(json.dumps({"import_errors": bag.import_errors, "dags": dags, "states": states}))
