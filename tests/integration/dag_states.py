"""Run by Airflow's own Python: what Airflow makes of a folder of DAGs, and of how a retraining can end.

python dag_states.py FOLDER DAG STATUS_FILE RESULT STATUS...: the DAG is run once for each status, which its command
reads from the file.
"""

import json
import sys
from pathlib import Path

from airflow.dag_processing.dagbag import DagBag

folder, dag_id, status_file, result, *statuses = sys.argv[1:]
bag = DagBag(folder)
states = {}
for status in statuses:
    Path(status_file).write_text(status)
    run = bag.dags[dag_id].test()
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
