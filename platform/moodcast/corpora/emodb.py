"""EMO-DB: German, acted, 535 clips of 10 sentences by 10 actors, seven emotions.

Source: Burkhardt, Paeschke, Rolfes, Sendlmeier, Weiss, "A Database of German Emotional Speech", Interspeech 2005; emodb.bilderbar.info.
Terms: CC0 1.0 as published by audEERING with the authors.

Layout: the owner's wav/ with lablaut/ (phone labels by hand) beside it; or manifest.csv, audio/ and labels/lablaut. Labels: intended:
`emotion` is the emotion the actor was asked for; only clips that at least 16 of 20 listeners recognised were published. `phones` are the
main segments of the label files. Splits: there is no official one; ours is by speaker (ten of them: use folds).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from moodcast.corpora._rules import Rule
from moodcast.corpora._table import has_manifest, read_rows, recordings
from moodcast.manifest import Utterance

LABELS = "intended"
EMOTIONS = {
    "anger": "angry",
    "boredom": "boredom",
    "disgust": "disgust",
    "fear": "fear",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
}
CODES = {"W": "angry", "L": "boredom", "E": "disgust", "A": "fear", "F": "happy", "N": "neutral", "T": "sad"}
TEXTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen.",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
MEN = ("03", "10", "11", "12", "15")
AGES = {"03": 31, "08": 34, "09": 21, "10": 32, "11": 26, "12": 30, "13": 32, "14": 35, "15": 25, "16": 31}
RULES: tuple[Rule, ...] = ()


def prepare(source: Path) -> list[Utterance]:
    """One row a clip. Raises ValueError where the folder does not hold the corpus."""
    rows = read_rows(source, "emodb", EMOTIONS) if has_manifest(source) else _owner(source)
    labels = next((path for path in (source / "labels" / "lablaut", source / "lablaut") if path.is_dir()), None)
    return [replace(row, age=AGES.get(row.speaker or ""), phones=_phones_of(labels, Path(row.path).stem)) for row in rows]


def _owner(source: Path) -> list[Utterance]:
    """Rows by file name: speaker (2), text (3), emotion letter, version."""
    folder = source / "wav"
    rows = []
    for path in recordings(folder if folder.is_dir() else source, "wav/ with files like 03a01Fa.wav"):
        speaker, text, emotion = path.stem[:2], path.stem[2:5], path.stem[5:6]
        if speaker not in AGES or text not in TEXTS or emotion not in CODES:
            raise ValueError(f"{path.name} is no clip of EMO-DB: wanted names like 03a01Fa.wav")
        rows.append(
            Utterance(
                id=f"emodb/{path.stem}",
                path=str(path.absolute()),
                corpus="emodb",
                language="de",
                speaker=speaker,
                gender="male" if speaker in MEN else "female",
                emotion=CODES[emotion],
                text=TEXTS[text],
            )
        )
    return rows


def _phones_of(folder: Path | None, clip: str) -> tuple[tuple[str, float, float], ...] | None:
    """The phones of a clip: the label files are called 03a01Faxx.lablaut, in some copies 03a01Fa.lablaut."""
    found = [path for name in (f"{clip}xx.lablaut", f"{clip}.lablaut") if folder and (path := folder / name).is_file()]
    return _phones(found[0]) if found else None


def _phones(path: Path) -> tuple[tuple[str, float, float], ...] | None:
    """(label, start_s, stop_s) of a label file: below "#", each line has the time a phone starts, a colour, its label and +modifiers.

    A line of modifiers alone marks something within a phone. The last line, ".", is where the last phone stops. That times are starts
    is not written down; the sound says so: vowels lie in loud frames (correlation with log power 0.46, 0.03 if they were ends).
    """
    body = path.read_text(encoding="latin-1").partition("\n#\n")[2]
    marks: list[tuple[str, float]] = []
    for line in body.splitlines():
        time, *words = line.split() or [""]
        label = next((word for word in words[1:] if word[0] not in "+-"), "")
        if time and label:
            marks.append((label, float(time)))
    return tuple((label, start_s, stop_s) for (label, start_s), (_, stop_s) in pairwise(marks)) or None
