"""CREMA-D: English, acted, 7442 clips of 12 sentences by 91 actors, six emotions, judged by a crowd.

Source: Cao, Cooper, Keutmann, Gur, Nenkova, Verma, "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", IEEE Trans. Affective
Computing 5(4):377-390, 2014; github.com/CheyneyComputerScience/CREMA-D. Terms: Open Database License 1.0, contents under the Database
Contents License 1.0.

Layout: the owner's AudioWAV/, VideoDemographics.csv and processedResults/tabulatedVotes.csv; or manifest.csv, the two tables and audio/.
Labels: intended: `emotion` is the emotion the actor was asked for; `votes` are how often raters who only heard the voice chose each class
(the two agree in 42 % of the clips, ties counted as wrong: say which one you train on). With labels=voted, `emotion` is the voters' first
choice, and clips with a tie have none. votes=voice, face or both says who voted. attributes=votes gives valence, arousal and dominance,
which nobody rated: each vote counts as what its class has in Russell and Mehrabian's table, -1 to 1 as 0 to 1. Splits: there is no
official one; ours is by actor.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from moodcast.corpora._rules import Rule
from moodcast.corpora._table import first_choice, has_manifest, read_csv, read_rows, recordings
from moodcast.manifest import Utterance

LABELS = "intended"
EMOTIONS = {"anger": "angry", "disgust": "disgust", "fear": "fear", "happy": "happy", "neutral": "neutral", "sad": "sad"}
CODES = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
VOTES = {"A": "angry", "D": "disgust", "F": "fear", "H": "happy", "N": "neutral", "S": "sad"}
# Valence, arousal, dominance: Russell and Mehrabian, "Evidence for a Three-Factor Theory of Emotions", J. Research in Personality 11, 1977,
# but for neutral, which is the middle by definition.
AFFECT = {
    "angry": (-0.51, 0.59, 0.25),
    "disgust": (-0.60, 0.35, 0.11),
    "fear": (-0.64, 0.60, -0.43),
    "happy": (0.81, 0.51, 0.46),
    "neutral": (0.0, 0.0, 0.0),
    "sad": (-0.63, -0.27, -0.33),
}
ATTRIBUTES = ("valence", "arousal", "dominance")
QUERIES = {"voice": "1", "face": "2", "both": "3"}  # first digit of a row number of tabulatedVotes.csv
TEXTS = {
    "DFA": "Don't forget a jacket",
    "IEO": "It's eleven o'clock",
    "IOM": "I'm on my way to the meeting",
    "ITH": "I think I have a doctor's appointment",
    "ITS": "I think I've seen this before",
    "IWL": "I would like a new alarm clock",
    "IWW": "I wonder what this is about",
    "MTI": "Maybe tomorrow it will be cold",
    "TAI": "The airplane is almost full",
    "TIE": "That is exactly what happened",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
RULES: tuple[Rule, ...] = (
    Rule("silent clip", ("cremad/1076_MTI_SAD_XX",), "no sound at all, labelled sad"),
    Rule(
        "one recording under two emotions",
        (
            *("cremad/1006_TIE_HAP_XX", "cremad/1006_TIE_NEU_XX", "cremad/1013_WSI_DIS_XX", "cremad/1013_WSI_SAD_XX"),
            *("cremad/1017_IWW_ANG_XX", "cremad/1017_IWW_FEA_XX", "cremad/1017_IWL_ANG_XX", "cremad/1017_IWL_FEA_XX"),
        ),
        "four pairs hold one take each (the last with another beginning): at most one label of a pair is right, nobody knows which",
    ),
    Rule(
        "two angry takes filed as disgust",
        ("cremad/1072_IEO_DIS_MD",),
        "the takes of 1072_IEO_ANG_LO and 1072_IEO_ANG_MD one after the other; 7 of 9 listeners heard anger",
    ),
    Rule(
        "one recording under two levels",
        ("cremad/1020_IEO_ANG_LO", "cremad/1028_IEO_HAP_LO"),
        "contained in 1020_IEO_ANG_MD and 1028_IEO_HAP_MD, which are kept",
    ),
    Rule(
        "one recording under two sentences",
        ("cremad/1045_IWL_DIS_XX", "cremad/1056_TAI_ANG_XX"),
        "the takes of 1045_ITH_DIS_XX and 1056_MTI_ANG_XX; what is said are the sentences of these, which are kept",
    ),
)


def prepare(source: Path, *, labels: str = "intended", votes: str = "voice", attributes: str = "none") -> list[Utterance]:
    """One row a clip. Raises ValueError where the folder lacks a table, or a table lacks a clip or an actor."""
    if labels not in ("intended", "voted") or votes not in QUERIES or attributes not in ("none", "votes"):
        got = f"labels={labels} votes={votes} attributes={attributes}"
        raise ValueError(f"{got}; wanted labels=intended or voted, votes=voice, face or both, and attributes=none or votes")
    actors = {row["ActorID"]: row for row in read_csv(source / "VideoDemographics.csv", ("ActorID", "Age", "Sex"))}
    nested = source / "processedResults" / "tabulatedVotes.csv"
    counts = {
        row["fileName"]: {name: float(row[letter]) for letter, name in VOTES.items() if float(row[letter])}
        for row in read_csv(nested if nested.is_file() else source / "tabulatedVotes.csv", ("", "fileName", *VOTES))
        if row[""].startswith(QUERIES[votes])
    }
    rows = []
    for row in read_rows(source, "cremad", EMOTIONS) if has_manifest(source) else _owner(source):
        clip = row.id.removeprefix("cremad/")
        if clip not in counts or row.speaker not in actors:
            raise ValueError(f"{clip} by actor {row.speaker} has no {votes} votes or no demographics in {source}; take the complete tables")
        about = actors[row.speaker]
        rated = _affect(counts[clip]) if attributes == "votes" else None
        row = replace(row, age=float(about["Age"]), gender=about["Sex"].lower(), votes=counts[clip], attributes=rated)
        rows.append(replace(row, emotion=first_choice(counts[clip])) if labels == "voted" else row)
    return rows


def _owner(source: Path) -> list[Utterance]:
    """Rows by file name, ACTOR_SENTENCE_EMOTION_LEVEL."""
    folder = source / "AudioWAV"
    rows = []
    for path in recordings(folder if folder.is_dir() else source, "AudioWAV/ with files like 1001_DFA_ANG_XX.wav"):
        actor, sentence, emotion, *_ = [*path.stem.split("_"), "", ""]
        if sentence not in TEXTS or emotion not in CODES:
            raise ValueError(f"{path.name} is no clip of CREMA-D: wanted names like 1001_DFA_ANG_XX.wav")
        rows.append(
            Utterance(
                id=f"cremad/{path.stem}",
                path=str(path.absolute()),
                corpus="cremad",
                language="en",
                speaker=actor,
                emotion=CODES[emotion],
                text=TEXTS[sentence],
            )
        )
    return rows


def _affect(counts: dict[str, float]) -> dict[str, float] | None:
    """Mean of what the voted classes have in AFFECT, each as often as it was voted for, in [0, 1]; None where nobody voted."""
    if not (total := sum(counts.values())):
        return None
    return {name: 0.5 + sum(AFFECT[word][at] * count for word, count in counts.items()) / total / 2 for at, name in enumerate(ATTRIBUTES)}
