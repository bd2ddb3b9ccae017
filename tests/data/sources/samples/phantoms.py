"""A source in the layout ``phantoms``, which generates its images when it is first read."""

DRAWS = True
N_ROWS = 12


def write(folder):
    return folder, {"n_patients": 6, "size": 32, "prevalence": {"Effusion": 0.5}, "seed": 1}
