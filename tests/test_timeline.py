from __future__ import annotations

import csv
import io
import json

import audformat
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyannote.database.util import load_rttm

from moodcast.formats import FORMATS, write
from moodcast.timeline import SCHEMA, STATUSES, Adaptation, ChunkRow, Segment, Timeline

CLASSES = ("angry", "happy")


def segment(speaker: str = "A", start_s: float = 0.0, stop_s: float = 1.0, **more: object) -> Segment:
    known = {"emotion": "happy", "emotions": {"angry": 0.25, "happy": 0.75}, "confidence": 0.75}
    return Segment.model_validate({"speaker": speaker, "start_s": start_s, "stop_s": stop_s, **known, **more})


def timeline(*segments: Segment, uri: str = "talk", duration_s: float = 10.0) -> Timeline:
    return Timeline(uri=uri, duration_s=duration_s, classes=CLASSES, segments=segments, provenance={"bundle": "default"})


names = st.text(min_size=1, max_size=8)
spans = st.tuples(st.floats(0, 5000), st.floats(0, 5000)).map(sorted)
segments = st.builds(
    lambda speaker, span, p, text, overlap: segment(
        speaker,
        *span,
        emotions={"angry": p, "happy": 1 - p},
        confidence=max(p, 1 - p),
        text=text,
        overlap=overlap,
        chunks=(ChunkRow(start_s=span[0], stop_s=span[1], emotions={"angry": p, "happy": 1 - p}),),
    ),
    names,
    spans,
    st.floats(0, 1),
    st.none() | names,
    st.booleans(),
)


@given(st.lists(segments, max_size=4), names)
def test_json_gives_an_equal_timeline_back(rows: list[Segment], uri: str) -> None:
    made = timeline(*rows, uri=uri, duration_s=6000)
    assert Timeline.from_json(made.to_json()) == made
    assert json.loads(made.to_json())["schema"] == SCHEMA


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_bytes_are_read_as_an_editor_saves_them(encoding: str):
    made = Timeline(uri="caf\u00e9", duration_s=1.0, classes=("happy",))
    assert Timeline.from_json(made.to_json().encode(encoding)) == made


def test_times_are_milliseconds_and_probabilities_have_six_decimals() -> None:
    found = segment(start_s=0.12345678, stop_s=1.0004999, confidence=1 / 3, emotions={"happy": 1.0 + 3e-7})
    assert (found.start_s, found.stop_s, found.confidence, found.emotions["happy"]) == (0.123, 1.0, 0.333333, 1.0)
    assert found.duration_s == 0.877


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data.update(schema="moodcast.timeline/9"), "moodcast.timeline/9"),
        (lambda data: data.pop("schema"), "schema None"),
        (lambda data: data.update(surprise=1), "surprise"),
        (lambda data: data["segments"][0].update(stop_s=-1), "segments.0.stop_s"),
        (lambda data: data["segments"][0].update(start_s=5, stop_s=1), "before start_s"),
        (lambda data: data["segments"][0].update(status="fine"), "segments.0.status"),
        (lambda data: data["segments"][0]["emotions"].update(happy=1.5), "segments.0.emotions.happy"),
    ],
)
def test_damaged_json_is_refused_with_the_place_named(damage: object, words: str) -> None:
    data = json.loads(timeline(segment()).to_json())
    damage(data)  # type: ignore[operator]
    with pytest.raises(ValueError, match=words):
        Timeline.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "NaN", b"\xff\xfe"])
def test_what_is_not_a_timeline_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="not a timeline"):
        Timeline.from_json(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_attribute_that_is_no_number_is_refused_before_it_is_written(value: float) -> None:
    with pytest.raises(ValueError, match="attributes.valence"):
        segment(attributes={"valence": value})


def test_csv_has_one_row_a_segment_and_a_column_a_class_and_attribute() -> None:
    made = timeline(
        segment("A", 0, 1.5, attributes={"valence": 0.25}, text='said "no", then left'),
        Segment(speaker="B", start_s=2, stop_s=2.1, status="too_short"),
    )
    rows = list(csv.DictReader(io.StringIO(made.to_csv())))
    assert [row["speaker"] for row in rows] == ["A", "B"]
    assert (rows[0]["p_happy"], rows[0]["valence"], rows[0]["text"]) == ("0.75", "0.25", 'said "no", then left')
    assert (rows[1]["emotion"], rows[1]["p_happy"], rows[1]["status"]) == ("", "", "too_short")


def test_a_cell_that_a_spreadsheet_would_run_is_quoted() -> None:
    made = timeline(segment("=HYPERLINK(1)", text="+1 for that"))
    (row,) = csv.DictReader(io.StringIO(made.to_csv()))
    assert (row["speaker"], row["text"]) == ("'=HYPERLINK(1)", "'+1 for that")


def test_pyannote_reads_our_rttm_back(tmp_path) -> None:
    made = timeline(segment("Anna B", 0.5, 2.25), segment("C", 2.0, 3.0), segment("C", 4.0, 4.0), uri="my talk")
    path = tmp_path / "talk.rttm"
    path.write_text(made.to_rttm())
    (uri,) = (found := load_rttm(path))
    rows = [(round(s.start, 3), round(s.end, 3), label) for s, _, label in found[uri].itertracks(yield_label=True)]
    assert uri == "my_talk"
    assert rows == [(0.5, 2.25, "Anna_B"), (2.0, 3.0, "C")]


def test_two_speakers_over_the_same_time_both_stay_in_the_rttm() -> None:
    lines = timeline(segment("A", 1, 2), segment("B", 1, 2)).to_rttm().splitlines()
    assert [line.split()[7] for line in lines] == ["A", "B"]


def test_speakers_come_in_the_order_in_which_they_are_heard() -> None:
    assert timeline(segment("B"), segment("A"), segment("B")).speakers == ("B", "A")


def test_write_makes_the_folder_and_four_files(tmp_path) -> None:
    paths = write(timeline(segment()), tmp_path / "out" / "deep", "talk")
    assert [path.name for path in paths] == ["talk.json", "talk.csv", "talk.rttm", "talk.html"]
    assert Timeline.from_json(paths[0].read_text()).speakers == ("A",)
    assert "<html" in paths[3].read_text()


def test_the_documentation_names_every_field_and_status(root) -> None:
    text = (root / "docs" / "timeline.md").read_text()
    names = {field.alias or name for kind in (Timeline, Segment, ChunkRow, Adaptation) for name, field in kind.model_fields.items()}
    assert sorted(name for name in {*names, *STATUSES} if f"`{name}`" not in text) == []
    schema = Timeline.model_json_schema()
    assert schema["$defs"]["Segment"]["properties"]["status"]["enum"] == list(STATUSES)


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_goes_through_every_form(status: str, tmp_path) -> None:
    rows = segment("A", 0, 1.5), segment("B", 2, 3, status=status, emotion="happy" if status == "ok" else None)
    made = timeline(*rows)
    assert Timeline.from_json(made.to_json()).segments[1].status == status
    assert list(csv.DictReader(io.StringIO(made.to_csv())))[1]["status"] == status
    for path in write(made, tmp_path, "talk", formats=tuple(FORMATS)):
        assert path.exists()
    words = "happy 75 %" if status == "ok" else f"({status.replace('_', ' ')})"
    for name in ("talk.labels.txt", "talk.TextGrid", "talk.eaf", "talk.vtt"):
        assert words in (tmp_path / name).read_text()
    assert pq.read_table(tmp_path / "talk.parquet").column("status").to_pylist() == ["ok", status]
    assert audformat.Database.load(str(tmp_path / "talk.audformat"))["timeline"]["status"].get().tolist() == ["ok", status]
