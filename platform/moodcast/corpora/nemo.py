"""nEMO: Polish, acted, 4481 clips of 90 sentences by nine actors, six emotions.

Source: Christop, "nEMO: Dataset of Emotional Speech in Polish", LREC-COLING 2024, pp. 12111-12116; github.com/amu-cai/nEMO.
Terms: CC BY-NC-SA 4.0.

Layout: the owner's data.tsv and samples/; Parquet files as on the Hugging Face hub (their audio is unpacked); or manifest.csv and audio/.
Labels: intended: `emotion` is the emotion the actor was asked for. Every sentence comes in every emotion, so the text carries no label.
Splits: there is no official one; ours is by speaker (nine of them: use folds).
"""

from __future__ import annotations

import csv
from pathlib import Path

from moodcast.corpora._hub import parquet_files, unpacked
from moodcast.corpora._rules import Rule
from moodcast.corpora._table import has_manifest, number, read_rows, recordings
from moodcast.manifest import Utterance

LABELS = "intended"
EMOTIONS = {
    "anger": "angry",
    "fear": "fear",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprised": "surprise",
    "surprise": "surprise",
}
COLUMNS = ("file_id", "emotion", "raw_text", "normalized_text", "speaker_id", "gender", "age")  # of data.tsv, which may lack a header
SHIFTED = "actor EB0's surprised clips 41 to 57 say the sentence of the number before theirs"
SAID = {
    45: "Tęsknota to uczucie, które każdy z nas zna.",
    50: "Niektórzy powiedzą, że to państwo z kartonu.",
    51: "W muzeum można zobaczyć szkielet dinozaura.",
    52: "Strzelec to znak zodiaku następujący po Skorpionie.",
    53: "Na złamaną kończynę często zakłada się gips.",
    54: "Kitel to strój, który noszą lekarze.",
    55: "W grudniu często pada śnieg.",
    56: "Chodzę do szkoły prawie codziennie.",
    57: "Moje dziecko umie już mówić kilka słów.",
}
UNSURE = tuple(n for n in range(41, 58) if n not in SAID)  # their sentence could not be compared, but it is not the one of their number
RULES: tuple[Rule, ...] = (
    *(Rule("text of another sentence", (f"nemo/EB0_surprised_{n}",), SHIFTED, change={"text": text}) for n, text in SAID.items()),
    Rule("text of another sentence", tuple(f"nemo/EB0_surprised_{n}" for n in UNSURE), SHIFTED, change={"text": None}),
)


def prepare(source: Path, *, unpack: Path | None = None) -> list[Utterance]:
    """One row a clip. Raises ValueError where the folder does not hold the corpus, or for a label or a file that is not in it."""
    if has_manifest(source):
        return read_rows(source, "nemo", EMOTIONS)
    if files := parquet_files(source):
        return [_row(record, path) for record, path in unpacked(source, files, unpack, "nemo")]
    paths = {path.stem: path for path in recordings(source, "data.tsv and samples/")}
    rows = []
    for record in _records(source / "data.tsv"):
        clip = Path(record["file_id"]).stem
        if clip not in paths:
            raise ValueError(
                f"{source / 'data.tsv'} names {clip}, which is not among the {len(paths)} recordings; take the complete corpus"
            )
        rows.append(_row(record, paths[clip]))
    return rows


def _records(table: Path) -> list[dict[str, str]]:
    if not table.is_file():
        raise ValueError(f"{table} is missing; wanted the folder of the corpus, with data.tsv and samples/")
    with open(table, encoding="utf-8-sig", newline="") as file:
        lines = [[cell.strip() for cell in line] for line in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if line]
    names: list[str] = list(COLUMNS)
    if lines and "emotion" in lines[0]:
        names = ["file_id" if name in ("file", "path", "file_name", "audio") else name for name in lines.pop(0)]
    if missing := [name for name in ("file_id", "emotion", "speaker_id") if name not in names]:
        raise ValueError(f"{table} lacks the columns {', '.join(missing)}; it has {', '.join(names)}")
    return [dict(zip(names, line, strict=False)) for line in lines]


def _row(record: dict[str, str], path: Path) -> Utterance:
    emotion = str(record.get("emotion"))
    if emotion not in EMOTIONS:
        raise ValueError(f"{path.name}: the label {emotion!r} is not one of {', '.join(EMOTIONS)}")
    return Utterance(
        id=f"nemo/{Path(str(record.get('file_id') or path.stem)).stem}",
        path=str(path.absolute()),
        corpus="nemo",
        language="pl",
        speaker=str(record["speaker_id"]).strip(),
        gender=record.get("gender") or None,
        age=number(record.get("age")),
        emotion=EMOTIONS[emotion],
        text=record.get("raw_text") or None,
    )
