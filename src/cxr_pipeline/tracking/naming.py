"""What the models and experiments of a task are called."""


def model_name(task: str, *, phantom: bool) -> str:
    """Name the registered model of a task; what was trained on phantoms has its own.

    Example:
        >>> model_name("effusion", phantom=True)
        'cxr-effusion-demo'
    """
    return f"cxr-{task}-demo" if phantom else f"cxr-{task}"


def experiment_name(task: str, *, phantom: bool) -> str:
    """Name the experiment that a task's runs belong to; it is called like the registered model."""
    return model_name(task, phantom=phantom)
