"""MSP-Podcast: English podcasts, natural speech, rated by a crowd: ten classes, arousal, valence and dominance.

Source: Lotfian, Busso, "Building Naturalistic Emotionally Balanced Speech Corpus by Retrieving Emotional Speech from Existing Podcast
Recordings", IEEE Trans. Affective Computing 10(4):471-483, 2019; releases 1.6 to 2.0. Terms: licence per institution.

Layout: Audios/, Labels/labels_consensus.csv or .json (or Labels.txt of old releases), and where they are there labels_detailed.csv or
.json (long, or packed as FileName, EmoDetail), Partitions.txt, Speaker_ids.txt, Transcripts/ and TextGrid files of a forced alignment.
Labels: voted: `emotion` is the consensus, the raters' commonest primary class (none for X, no agreement; O is "other"); `votes` are all
primary votes, write-in classes counted as other; `attributes` are raters' means from 1..7 scaled to 0..1. Splits: the owner's, Train,
Development, Test1, Test2 and Test3 as train, dev, test1, test2 and test3; speakers that are "Unknown" may stand on several sides unseen.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from moodcast.corpora._rules import Rule
from moodcast.corpora._table import first, gender, number, read_csv, recordings_below
from moodcast.corpora._textgrid import read_tiers
from moodcast.manifest import Utterance
from moodcast.texts import read_text

LABELS = "voted"
EMOTIONS = {
    "A": "angry",
    "S": "sad",
    "H": "happy",
    "U": "surprise",
    "F": "fear",
    "D": "disgust",
    "C": "contempt",
    "N": "neutral",
    "O": "other",
}
PRIMARIES = {name: name for name in EMOTIONS.values()} | {"anger": "angry", "sadness": "sad", "happiness": "happy"}
SIDES = {"Train": "train", "Development": "dev", "Validation": "dev", "Test": "test", "Test1": "test1", "Test2": "test2", "Test3": "test3"}
ATTRIBUTES = {"arousal": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}
SHORT = {"A": "EmoAct", "V": "EmoVal", "D": "EmoDom"}  # as Labels.txt writes them
RULES: tuple[Rule, ...] = ()


def prepare(source: Path) -> list[Utterance]:
    """One row a turn that is labelled or partitioned.

    Raises ValueError where no consensus labels are there, a line cannot be read, or the partitions contradict each other.
    """
    consensus, votes = _labels(source)
    partitions, speakers = _pairs(source, "Partition*.txt", side_first=True), _pairs(source, "Speaker_ids.txt", side_first=False)
    audio = next((source / name for name in ("Audios", "Audio", "audio") if (source / name).is_dir()), source)
    paths = {path.stem: path for path in recordings_below(audio)}
    aligned = {path.stem: path for path in sorted(source.rglob("*.TextGrid"))}
    rows = []
    for clip in sorted({*consensus, *partitions}):
        record = consensus.get(clip, {})
        words = read_tiers(aligned[clip]) if clip in aligned else {}
        speaker = first(record, ("SpkrID",)) or speakers.get(clip)
        text = source / "Transcripts" / f"{clip}.txt"
        rows.append(
            Utterance(
                id=f"msp_podcast/{clip}",
                path=str(paths.get(clip, audio / f"{clip}.wav").absolute()),
                corpus="msp_podcast",
                language="en",
                speaker=None if speaker in (None, "Unknown") else f"Speaker_{str(speaker).removeprefix('Speaker_')}",
                gender=gender(first(record, ("Gender",))),
                split=_side(clip, first(record, ("Split_Set",)), partitions.get(clip)),
                emotion=_emotion(clip, first(record, ("EmoClass",))),
                votes=dict(votes[clip]) if votes.get(clip) else None,
                attributes=_attributes(record),
                text=read_text(text).strip() or None if text.is_file() else None,
                words=words.get("words"),
                phones=words.get("phones"),
            )
        )
    return rows


def _labels(source: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Counter[str]]]:
    """Consensus records and votes by clip, from whichever files a release has."""
    folder = source / "Labels" if (source / "Labels").is_dir() else source
    consensus: dict[str, dict[str, Any]] = {}
    votes: dict[str, Counter[str]] = {}
    if (path := folder / "labels_consensus.csv").is_file():
        consensus = {_stem(row["FileName"]): dict(row) for row in read_csv(path, ("FileName", "EmoClass"))}
    elif (path := folder / "labels_consensus.json").is_file():
        consensus = {_stem(name): one[0] if isinstance(one, list) else one for name, one in _json(path).items()}
    elif blocks := next((path for path in (folder / "Labels.txt", folder / "labels.txt") if path.is_file()), None):
        return _blocks(blocks)
    else:
        raise ValueError(f"{folder / 'labels_consensus.csv'} is missing; wanted the folder of the corpus, with Labels/ in it")
    if (path := folder / "labels_detailed.csv").is_file():
        for clip, primary in _detailed(path):
            votes.setdefault(clip, Counter())[_primary(primary)] += 1
    elif (path := folder / "labels_detailed.json").is_file():
        for name, workers in _json(path).items():
            votes[_stem(name)] = Counter(_primary(str(one.get("EmoClass_Major", ""))) for one in workers.values())
    return consensus, votes


def _detailed(path: Path) -> Iterator[tuple[str, str]]:
    """(clip, primary class) of every rater, from the long layout or the packed one."""
    for row in read_csv(path, ("FileName",)):
        if "EmoClass_Major" in row:
            yield _stem(row["FileName"]), row["EmoClass_Major"]
        elif "EmoDetail" in row:
            yield _stem(row["FileName"]), _packed(row["EmoDetail"], path)
        else:
            raise ValueError(f"{path} has the columns {', '.join(row)}; wanted EmoClass_Major (one rater a row) or EmoDetail (packed)")


def _packed(text: str, path: Path) -> str:
    """The primary class of "WORKER00000123; Neutral; Neutral,Concerned; A:4.0; V:4.0; D:3.0;" (the secondary field may be missing)."""
    parts = [part.strip() for part in text.split(";")]
    if len(parts) < 2 or ":" in parts[1]:
        raise ValueError(f"{path}: {text[:80]!r} is no rater's line; wanted WORKER...; PRIMARY; SECONDARY; A:..; V:..; D:..;")
    return parts[1]


def _blocks(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Counter[str]]]:
    """Labels.txt: a line of consensus that begins with the file's name, then one line a rater."""
    consensus: dict[str, dict[str, Any]] = {}
    votes: dict[str, Counter[str]] = {}
    clip = ""
    for line in read_text(path).splitlines():
        parts = [part.strip() for part in line.split(";") if part.strip()]
        if not parts:
            continue
        if parts[0].lower().endswith(".wav"):
            clip = _stem(parts[0])
            values = dict(part.split(":", 1) for part in parts[2:] if ":" in part)
            consensus[clip] = {"EmoClass": parts[1], **{SHORT[key]: value for key, value in values.items() if key in SHORT}}
        elif clip:
            votes.setdefault(clip, Counter())[_primary(_packed(line, path))] += 1
        else:
            raise ValueError(
                f"{path}: {line[:80]!r} comes before any file; wanted a line like MSP-PODCAST_0001_0008.wav; N; A:2.2; V:4.0; D:2.6;"
            )
    return consensus, votes


def _pairs(source: Path, pattern: str, side_first: bool) -> dict[str, str]:
    """Clip -> side or speaker of a text file of lines "Test1; NAME.wav" or "NAME.wav; Speaker_3"; empty where there is none."""
    found: dict[str, str] = {}
    for path in sorted(source.rglob(pattern))[:1]:
        for line in read_text(path).splitlines():
            if line.strip():
                left, _, right = line.partition(";")
                value, clip = (left, right) if side_first else (right, left)
                found[_stem(clip.strip(" ;"))] = value.strip(" ;")
    return found


def _side(clip: str, split: str | None, partition: str | None) -> str | None:
    """Our name of the side; Split_Set and Partitions.txt must agree where both know the clip."""
    sides = {name: SIDES.get(name) for name in (split, partition) if name}
    if unknown := [name for name, side in sides.items() if side is None]:
        raise ValueError(f"{clip}: the side {unknown[0]!r} is none of {', '.join(SIDES)}")
    if len(set(sides.values())) > 1:
        raise ValueError(f"{clip}: Split_Set says {split}, Partitions.txt {partition}; the release is mixed up, take one of them away")
    return next(iter(sides.values()), None)


def _emotion(clip: str, letter: str | None) -> str | None:
    if letter is not None and letter not in (*EMOTIONS, "X"):
        raise ValueError(f"{clip}: the class {letter!r} is none of {', '.join(EMOTIONS)} and X")
    return EMOTIONS.get(letter or "")


def _primary(text: str) -> str:
    """A rater's primary class: free text that is none of ours (1 406 spellings in a release) counts as other."""
    return PRIMARIES.get(text.strip().lower(), "other")


def _attributes(record: Mapping[str, Any]) -> dict[str, float] | None:
    values = {name: number(record.get(column)) for name, column in ATTRIBUTES.items()}
    return {name: (value - 1) / 6 for name, value in values.items() if value is not None} or None


def _stem(name: str) -> str:
    return name.strip().removesuffix(".wav")


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error})") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds a {type(data).__name__}; wanted an object by file name")
    return data
