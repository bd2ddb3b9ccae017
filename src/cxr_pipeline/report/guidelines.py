"""Items of the reporting guidelines CLAIM and TRIPOD+AI that a run cannot answer.

A model card covers all other items except 1 and 2, the title and abstract of a paper.

References:
    Mongan, Moy, Kahn, "Checklist for artificial intelligence in medical imaging (CLAIM)", Radiology: AI 2, 2020, whose
    numbers are used here; Tejani et al., its update, Radiology: AI 6, 2024.
    Collins et al., "TRIPOD+AI statement", BMJ 385, 2024.
    Mitchell et al., "Model cards for model reporting", FAT* 2019.
"""

from cxr_pipeline.report.content import Section, Table

# The field, and its items in CLAIM (2020) and TRIPOD+AI.
UNKNOWN = (
    ("clinical background and intended role in care", "3", "3a, 3b"),
    ("known health inequalities between groups", "", "3c"),
    ("whether images were collected for this purpose or in routine care", "5", "5a"),
    ("dates, places and scanners of the images", "7", "5b, 6a, 9b"),
    ("eligibility criteria, and selection of the images of the source", "8", "6b"),
    ("treatments received by the patients", "", "6c"),
    ("method of de-identification", "12", ""),
    ("who assigned the labels, with which tools, and reader agreement", "14 to 18", "8"),
    ("sample size calculation", "19", "10"),
    ("analysis of the misclassified images", "37", ""),
    ("implications for practice, relation to earlier studies, fairness, next steps", "39", "25, 27c"),
    ("ethical approval", "", "17"),
    ("registration, protocol, funding, conflicts of interest, sharing of data and code", "40 to 42", "18"),
    ("patient and public involvement", "", "19"),
)


def unknown_fields() -> Section:
    """List the information that a run does not have, with the items of the guidelines."""
    explanation = (
        "The guidelines also require the following information, which the pipeline does not have. Add it before you "
        "publish or use the model."
    )
    table = Table(("unknown to this pipeline", "CLAIM", "TRIPOD+AI"), UNKNOWN, "long")
    return Section("Unknown to this pipeline", [explanation, table], anchor="unknown")
