"""A source in the layout ``label_table``: images named in three ways, one missing, one ambiguous, one outside."""

from . import draw_image

N_ROWS = 10
IMAGES = ("a/1.png", "a/2.jpg", "b/3.png", "b/4.png", "5.tif", "6.png", "a/twice.png", "b/twice.png")
TABLE = """image,patient,sex,age,part,Mass,Edema
a/1.png,P1,F,50,train,1,0
2.jpg,P1,F,50,train,0,0
b/3,P2,m,61,val,-1,1
4,P3,Male,,test,,1
5.tif,P4,,33,,1,1
6.png,P5,,33,,0,0
6.png,P5,,33,,0,0
twice.png,P6,,,,1,0
gone.png,P7,,,,1,0
../labels.csv,P8,,,,1,0
"""


def write(folder):
    for number, image in enumerate(IMAGES):
        draw_image(folder / image, number)
    (folder / "labels.csv").write_text(TABLE)
    columns = {"image": "image", "one_hot": ("Mass", "Edema"), "patient_id": "patient", "sex": "sex", "age": "age"}
    return folder, {"table": "labels.csv", "columns": {**columns, "split": "part"}}
