"""RAVDESS speech, audio only: North American English, acted, 1440 clips of two statements by 24 actors, eight emotions.

Source: Livingstone, Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song", PLoS ONE 13(5):e0196391, 2018; Zenodo 1188976.
Terms: CC BY-NC-SA 4.0 (commercial licence on request).

Layout: the owner's Actor_01/03-01-05-01-01-01-01.wav and so on, at any depth (song and video are left out); or manifest.csv and audio/.
Labels: intended: `emotion` is the emotion the actor was asked for. Splits: there is no official one; ours is by actor.
"""

from __future__ import annotations

from pathlib import Path

from moodcast.corpora._rules import Rule
from moodcast.corpora._table import has_manifest, read_rows, recordings
from moodcast.manifest import Utterance

LABELS = "intended"
EMOTIONS = {
    "neutral": "neutral",
    "calm": "calm",
    "happy": "happy",
    "sad": "sad",
    "angry": "angry",
    "fearful": "fear",
    "disgust": "disgust",
    "surprised": "surprise",
}
TEXTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
AUDIO, SPEECH = "03", "01"  # modality and channel
RULES: tuple[Rule, ...] = (
    Rule(
        "one recording as two repetitions",
        ("ravdess/03-01-03-01-02-02-07",),
        "the same samples as 03-01-03-01-02-01-07, which is kept",
    ),
)


def prepare(source: Path) -> list[Utterance]:
    """One row a clip. Raises ValueError where the folder does not hold the corpus."""
    if has_manifest(source):
        return read_rows(source, "ravdess", EMOTIONS)
    rows = []
    for path in recordings(source, "Actor_01/ to Actor_24/ with files like 03-01-05-01-01-01-01.wav"):
        parts = path.stem.split("-")
        if len(parts) != 7 or not all(part.isdigit() for part in parts):
            raise ValueError(f"{path.name} is no clip of RAVDESS: wanted names like 03-01-05-01-01-01-01.wav")
        modality, channel, emotion, _intensity, statement, _repetition, actor = parts
        if (modality, channel) != (AUDIO, SPEECH):
            continue
        if not 1 <= int(emotion) <= len(EMOTIONS) or statement not in TEXTS:
            raise ValueError(f"{path.name}: emotion {emotion} and statement {statement} are none of RAVDESS (01 to 08, 01 to 02)")
        rows.append(
            Utterance(
                id=f"ravdess/{path.stem}",
                path=str(path.absolute()),
                corpus="ravdess",
                language="en",
                speaker=f"Actor_{actor}",
                gender="male" if int(actor) % 2 else "female",
                emotion=list(EMOTIONS.values())[int(emotion) - 1],
                text=TEXTS[statement],
            )
        )
    if not rows:
        raise ValueError(f"{source} holds no speech of RAVDESS (files that begin with {AUDIO}-{SPEECH}); song and video are not read")
    return rows
