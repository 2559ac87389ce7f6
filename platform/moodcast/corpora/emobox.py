"""EmoBox metadata: the JSONL files, folds and label maps that the EmoBox benchmark gives for 32 corpora; the audio is yours.

Source: Ma, Chen, Zhang and others, "EmoBox: Multilingual Multi-corpus Speech Emotion Recognition Toolkit and Benchmark", Interspeech 2024;
github.com/emo-box/EmoBox. Terms: metadata MIT; audio as its owners say.

Layout: the folder data/CORPUS with label_map.json, CORPUS.jsonl and fold_1/ and so on; audio=FOLDER is where downloads/CORPUS lies
(default: beside data/). Labels: as the corpus has them, made canonical by label_map.json; labels=THEIRS:OURS,... adds to it. Splits: the
folds of EmoBox, fold=1 and on; where it has no validation part there is no dev (EmoBox takes random utterances). Of many corpora they
leak speakers (all of EMO-DB's and CREMA-D's stand on both sides): fold=none leaves them out and splits anew. Speakers are only known by
speaker=REGEX, whose first group names them within the path; without it nothing can keep them apart.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from moodcast.corpora._rules import Rule
from moodcast.corpora._table import canonical, gender, mapping, number, placed, seconds
from moodcast.corpora.folder import speaker_of
from moodcast.manifest import Utterance
from moodcast.texts import read_text

LABELS = "as the corpus"
EMOTIONS: dict[str, str] = {}
RULES: tuple[Rule, ...] = ()


def prepare(
    source: Path,
    *,
    audio: str | None = None,
    fold: str = "1",
    labels: str | None = None,
    speaker: str | None = None,
    language: str | None = None,
) -> list[Utterance]:
    """One row a line. Raises ValueError for a folder that is not one of EmoBox', a fold it lacks, or a label that means no class."""
    if not (source / "label_map.json").is_file():
        raise ValueError(f"{source / 'label_map.json'} is missing; wanted the folder of the corpus, data/CORPUS of EmoBox, got {source}")
    names = {**_json(source / "label_map.json"), **mapping(labels)}
    root = Path(audio) if audio else source.absolute().parent.parent
    rows = []
    for split, path in _files(source, fold):
        for line, record in enumerate(_lines(path), start=1):
            try:
                rows.append(_row(record, split, root, names, speaker, language))
            except (KeyError, ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"line {line} of {path}: {error}") from None
    return rows


def _files(source: Path, fold: str) -> list[tuple[str | None, Path]]:
    name = source.absolute().name
    if fold == "none":
        whole = source / f"{name}.jsonl"
        if not whole.is_file():
            raise ValueError(f"{whole} is missing; wanted the folder of the corpus, with {whole.name} in it")
        return [(None, whole)]
    folder = source / f"fold_{fold}"
    sides = (("train", "train"), ("valid", "dev"), ("test", "test"))
    found = [(ours, path) for theirs, ours in sides if (path := folder / f"{name}_{theirs}_fold_{fold}.jsonl").is_file()]
    if not found:
        have = ", ".join(sorted(path.name.removeprefix("fold_") for path in source.glob("fold_*"))) or "none"
        raise ValueError(f"{folder} holds no {name}_train_fold_{fold}.jsonl; folds here: {have} (fold=none splits anew)")
    return list(found)


def _row(
    record: dict[str, Any], split: str | None, root: Path, names: dict[str, str], speaker: str | None, language: str | None
) -> Utterance:
    corpus = str(record["dataset"])
    known = record.get("spk") or record.get("speaker")
    return Utterance(
        id=str(record["key"]) if str(record["key"]).startswith(corpus) else f"{corpus}/{record['key']}",
        path=placed(root, record["wav"]),
        start_s=seconds(record.get("start_time")) or 0.0,
        stop_s=seconds(record.get("end_time")),
        corpus=corpus,
        language=language,
        speaker=str(known) if known else speaker_of(Path(record["wav"]), speaker),
        gender=gender(record.get("gender")),
        split=split,
        emotion=canonical(str(record["emo"]), names),
        duration_s=number(record.get("length")) if record.get("end_time") is None else None,
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    """Records of a JSONL file, or of one whose lines are an array that was printed over many lines."""
    text = read_text(path).strip()
    try:
        found = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.split("\n") if line.strip()]
    except ValueError as error:
        raise ValueError(f"{path} is not JSONL ({error})") from None
    return list(found)


def _json(path: Path) -> dict[str, str]:
    try:
        return {str(key): str(value) for key, value in json.loads(read_text(path)).items()}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is no label map ({error})") from None
