"""`analyze` and `evaluate-podcast` as a person types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moodcast.audio import fingerprint, read
from moodcast.bundle import Calibration, load, save
from moodcast.labels import Labels
from moodcast.methods.erm import Erm
from moodcast.methods.voiceprint import Voiceprint
from moodcast.provenance import ChosenOn, Provenance
from moodcast.run import Run, build
from moodcast.speech import one_thread
from tests.typed import Command, untrained


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("bundles") / "small")


def test_analyze_follows_a_given_rttm_and_writes_every_form(
    moodcast: Command, bundle: Path, write_wav: Callable[..., Path], speechlike: Callable, tmp_path: Path
) -> None:
    file = write_wav("talk.wav", speechlike(6.0))
    turns = tmp_path / "talk.rttm"
    turns.write_text("SPEAKER talk 1 0.500 2.000 <NA> <NA> anna <NA> <NA>\nSPEAKER talk 1 3.000 2.500 <NA> <NA> ben <NA> <NA>\n")
    said = moodcast("analyze", file, "--bundle", bundle, "--rttm", turns, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert "anna" in said.out
    assert "ben" in said.out
    written = {path.suffix: path for path in (tmp_path / "out").iterdir()}
    assert set(written) == {".json", ".csv", ".rttm", ".html"}
    assert all(str(path) in said.out for path in written.values())
    rows = json.loads(written[".json"].read_text())["segments"]
    assert [(row["speaker"], row["start_s"], row["stop_s"]) for row in rows] == [("anna", 0.5, 2.5), ("ben", 3.0, 5.5)]


def test_analyze_goes_on_where_it_stopped_and_says_what_it_did(
    moodcast: Command, bundle: Path, write_wav: Callable[..., Path], speechlike: Callable, tmp_path: Path
) -> None:
    good, bad = write_wav("talk.wav", speechlike(3.0)), tmp_path / "notes.wav"
    bad.write_text("these are words")
    words = ("--bundle", bundle, "--out", tmp_path / "out", "--formats", "json,vtt")
    first = moodcast("analyze", good, bad, *words)
    assert first.code == 1
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".vtt"}
    assert "1 analysed, 0 were in" in first.err
    assert "1 failed" in first.err
    assert "0 analysed, 1 were in" in moodcast("analyze", good, *words).err
    more = moodcast("analyze", good, *words[:-1], "csv,vtt")  # written from the JSON
    assert [line.rpartition("/")[2] for line in more.out.splitlines()] == ["talk.csv"]
    assert "0 analysed, 1 were in" in more.err
    assert "written" in moodcast("analyze", good, *words, "--again").out
    (tmp_path / "out" / "blocked.vtt").mkdir(parents=True)  # so that one of the files cannot be written
    blocked = moodcast("analyze", write_wav("blocked.wav", speechlike(2.0)), good, *words)
    assert (blocked.code, "0 analysed, 1 were in" in blocked.err, "blocked.vtt: Is a directory" in blocked.err) == (1, True, True)
    assert "written" in moodcast("analyze", good, *words, "--speakers", "2").out  # another question
    unknown = moodcast("analyze", good, "--bundle", bundle, "--formats", "doc")
    assert (unknown.code, "textgrid" in unknown.err) == (2, True)


def test_analyze_says_where_fewer_people_are_heard_than_were_asked_for(
    moodcast: Command, bundle: Path, write_wav: Callable[..., Path], speechlike: Callable, tmp_path: Path
) -> None:
    spoken, mute = write_wav("talk.wav", speechlike(2.0)), write_wav("mute.wav", 0 * speechlike(2.0))
    words = ("--bundle", bundle, "--out", tmp_path / "out", "--formats", "json")
    said = moodcast("analyze", spoken, mute, *words, "--speakers", "40")
    assert said.code == 0
    lines = [line for line in said.err.replace("\n", " ").split("note: ") if ".wav: " in line]
    heard = len({row["speaker"] for row in json.loads((tmp_path / "out" / "talk.json").read_text())["segments"]})
    assert f"talk.wav: {heard} of the 40 speakers that were asked for" in lines[0]
    assert "mute.wav: nobody is heard to speak" in lines[1]
    assert "note: " not in moodcast("analyze", spoken, *words, "--again").err


def test_analyze_replaces_nothing_that_it_did_not_make_of_this_recording(
    moodcast: Command, bundle: Path, write_wav: Callable[..., Path], speechlike: Callable, tmp_path: Path
) -> None:
    file = write_wav("talk.wav", speechlike(3.0))
    turns = tmp_path / "talk.rttm"
    turns.write_text(lines := "SPEAKER talk 1 0.5 2.0 <NA> <NA> anna <NA> <NA>\nSPEAKER other 1 0.5 2.0 <NA> <NA> ben <NA> <NA>\n")
    words = ("analyze", file, "--bundle", bundle)
    for more in ((), ("--again",)):
        said = moodcast(*words, "--rttm", turns, "--out", tmp_path, *more)
        assert (said.code, "is what --rttm reads and what would be written" in said.err) == (2, True)
    (tmp_path / "talk.csv").write_text("mine")
    said = moodcast(*words, "--out", tmp_path, "--formats", "csv,json")
    assert (said.code, "no timeline talk.json beside it says that moodcast made it" in said.err) == (2, True)
    assert (turns.read_text(), (tmp_path / "talk.csv").read_text()) == (lines, "mine")
    assert moodcast(*words, "--out", tmp_path, "--formats", "csv,json", "--again").code == 0
    (tmp_path / "elsewhere").mkdir()
    other = write_wav("elsewhere/talk.wav", speechlike(2.0))
    before = (tmp_path / "talk.json").read_bytes()
    said = moodcast("analyze", other, "--bundle", bundle, "--out", tmp_path, "--formats", "csv,json")
    assert (said.code, "is of another recording of that name" in said.err) == (2, True)
    assert (tmp_path / "talk.json").read_bytes() == before


def test_analyze_takes_a_pipeline_of_pyannote_only_from_a_maker_who_is_trusted(
    moodcast: Command, bundle: Path, write_wav: Callable[..., Path], talk: Any, pyannote_folder: Path, tmp_path: Path
) -> None:
    file = write_wav("talk.wav", talk)
    words = ("analyze", file, "--bundle", bundle, "--out", tmp_path / "out", "--formats", "json")
    refused = moodcast(*words, "--diarizer", pyannote_folder)
    assert (refused.code, "--trust-checkpoint" in refused.err) == (2, True)
    with one_thread():
        said = moodcast(*words, "--diarizer", pyannote_folder, "--trust-checkpoint", "--max-speakers", "3")
        assert said.code == 0, said.err
        again = moodcast(*words, "--diarizer", pyannote_folder, "--trust-checkpoint", "--max-speakers", "3")
    found = json.loads((tmp_path / "out" / "talk.json").read_text())
    assert found["provenance"]["diarizer"].startswith("pyannote/tiny/")
    assert any(row["overlap"] for row in found["segments"])
    assert "1 were in" in again.err
    assert "written" in moodcast(*words, "--speakers", "1").out  # the embedded one is another question
    absent = moodcast(*words, "--diarizer", "owner/nothing", "--trust-checkpoint")
    assert (absent.code, "not on this machine" in absent.err) == (2, True)
    for odd in (("--rttm", file, "--diarizer", pyannote_folder), ("--trust-checkpoint",), ("--language", "de")):
        assert moodcast(*words, *odd).code == 2
    turns = tmp_path / "talk.rttm"
    turns.write_text("SPEAKER talk 1 0.5 2.0 <NA> <NA> anna <NA> <NA>\n")
    idle = moodcast(*words, "--rttm", turns, "--trust-checkpoint")
    assert (idle.code, "nothing to find out for --trust-checkpoint" in idle.err) == (2, True)
    own = moodcast(*words, "--diarizer", pyannote_folder, "--voiceprint", "voiceprint")
    assert (own.code, "tells voices apart by its own means" in own.err) == (2, True)


def test_analyze_tells_voices_apart_by_the_bundle_that_was_asked_for(
    moodcast: Command, bundle: Path, write_wav: Callable[..., Path], talk: Any, tmp_path: Path
) -> None:
    run = Run(Voiceprint.Config(num_mels=16, width=16, channels=4, layers=1, embedding=8), labels=Labels(("c/a", "c/b"), "speaker"))
    mine = save(tmp_path / "mine", build(run), run)
    words = ("analyze", write_wav("talk.wav", talk), "--bundle", bundle, "--out", tmp_path / "out", "--formats", "json")
    said = moodcast(*words, "--voiceprint", mine)
    assert said.code == 0, said.err
    found = json.loads((tmp_path / "out" / "talk.json").read_text())
    assert found["provenance"]["diarizer"].startswith(f"embedded/{load(mine).sha256[:12]}|")
    assert "written" in moodcast(*words).out  # the shipped one is another question


def test_analyze_writes_down_words_and_says_what_it_did_to_answers(
    moodcast: Command, bundle: Path, write_wav: Callable[..., Path], speechlike: Callable, recognisers: dict[str, Path], tmp_path: Path
) -> None:
    file = write_wav("talk.wav", speechlike(6.0))
    turns = tmp_path / "talk.rttm"
    turns.write_text("SPEAKER talk 1 0.5 2.0 <NA> <NA> anna <NA> <NA>\nSPEAKER talk 1 3.0 2.5 <NA> <NA> ben <NA> <NA>\n")
    words = ("analyze", file, "--bundle", bundle, "--rttm", turns, "--out", tmp_path / "out", "--formats", "json,csv,vtt,textgrid,eaf")
    said = moodcast(*words, "--transcriber", recognisers["ctc"], "--adapt", "--smooth", "median:3", "--min-confidence", "0.99")
    assert said.code == 0, said.err
    found = json.loads((tmp_path / "out" / "talk.json").read_text())
    assert {name: found["provenance"][name] for name in ("adapt", "smooth", "min_confidence")} == {
        "adapt": "speaker",
        "smooth": "median:3",
        "min_confidence": "0.99",
    }
    assert [row["status"] for row in found["segments"]] == ["low_confidence"] * 2
    assert [one["speaker"] for one in found["adaptation"]] == ["anna", "ben"]
    text = found["segments"][0]["text"]
    assert text
    for suffix in (".csv", ".vtt", ".TextGrid", ".eaf"):
        assert text in (tmp_path / "out" / f"talk{suffix}").read_text()
    assert moodcast(*words, "--smooth", "mean:3").code == 2


def test_the_whole_chain_is_scored_beside_what_the_references_turns_would_buy(
    moodcast: Command, bundle: Path, write_wav: Callable[..., Path], speechlike: Callable, tmp_path: Path
) -> None:
    file = write_wav("talk.wav", speechlike(6.0))
    (tmp_path / "talk.csv").write_text("start_s,stop_s,speaker,emotion\n0.5,2.5,anna,happy\n3.0,5.5,ben,neutral\n5.5,5.6,ben,Sad\n")
    told = tmp_path / "new" / "scores.json"
    said = moodcast("evaluate-podcast", file, "-r", tmp_path, "--bundle", bundle, "--json", told, "--collar", "0.1")
    assert said.code == 0, said.err
    assert "small does not know these emotions of the references, and is wrong wherever they are: Sad (0.1 s)" in said.err
    assert "collar 0.1 s" in said.out
    assert "reference turns: the right number of speakers in 1 of 1" in said.out
    found = json.loads(told.read_text())
    assert found["reference turns"]["rates"]["der"]["rate"] == 0.0
    assert {"der", "jer", "teer", "steer", "eder"} <= found["predicted turns"]["rates"].keys()
    assert found["predicted turns"]["conversations"][0]["errors"]["der"]["total_s"] == pytest.approx(4.5, abs=0.25)  # less the collar
    (tmp_path / "late.csv").write_text("start_s,stop_s,speaker,emotion\n50,51,anna,happy\n")
    late = write_wav("late.wav", speechlike(1.0))
    some = moodcast("evaluate-podcast", late, file, "-r", tmp_path, "--bundle", bundle, "--json", told)
    assert (some.code, f"{late}: the turn of anna at 50.00 s begins after the end" in some.err) == (1, True)
    assert "1 of 2 recordings could not be scored" in some.err
    assert len(json.loads(told.read_text())["predicted turns"]["conversations"]) == 1
    missing = moodcast("evaluate-podcast", write_wav("other.wav", speechlike(1.0)), "-r", tmp_path, "--bundle", bundle)
    assert (missing.code, "no reference of other" in missing.err) == (2, True)
    both = moodcast("evaluate-podcast", file, file, "-r", tmp_path / "talk.csv", "--bundle", bundle)
    assert (both.code, "is the reference of one recording" in both.err) == (2, True)
    (tmp_path / "all.uem").write_text("another 1 0.0 3.0\n")
    unsaid = moodcast("evaluate-podcast", file, "-r", tmp_path, "--bundle", bundle, "--uem", tmp_path / "all.uem")
    assert (unsaid.code, "does not say what is scored of talk" in unsaid.err) == (2, True)


def test_the_chain_is_scored_on_conversations_put_together(
    moodcast: Command, bundle: Path, write_wav: Callable[..., Path], speechlike: Callable, tmp_path: Path
) -> None:
    from moodcast.manifest import Utterance, write_manifest

    rows = []
    for i in range(12):
        path = write_wav(f"{i}.wav", speechlike(0.9, seed=i, hz=(110, 220)[i % 2]))
        emotion = ("angry", "happy", "neutral", "sad")[i // 2 % 4]
        rows.append(Utterance(f"u{i}", str(path), corpus="toy", speaker=f"s{i % 2}", emotion=emotion, split="test"))
    write_manifest(rows, tmp_path / "toy.parquet")
    words = ("evaluate-podcast", "--simulate", "2", "--seconds", "6", "--bundle", bundle)
    said = moodcast(*words, "--corpus", tmp_path / "toy.parquet", "--json", tmp_path / "scores.json")
    assert said.code == 0, said.err
    assert "reference turns: the right number of speakers in 2 of 2, off by 0.000" in said.out
    assert "2 conversations of 2 speakers, seed 0" in said.err
    found = json.loads((tmp_path / "scores.json").read_text())
    kinds = ("predicted turns", "predicted turns, adapted", "trivial", "reference turns", "reference turns, adapted")
    assert all({"rates", "speakers", "coverage", "conversations"} <= found[kind].keys() for kind in kinds)
    assert found["reference turns"]["coverage"][0]["coverage"]["value"] > 0.5
    assert {one["speakers_found"] for one in found["trivial"]["conversations"]} == {1}
    none = moodcast(*words)
    assert (none.code, "--corpus" in none.err) == (2, True)
    run = Run(method=Erm.Config(width=16, channels=4))
    knows = save(tmp_path / "knows", build(run), run, Provenance(fingerprints=(fingerprint(read(rows[3].path)),)))
    heard = moodcast(*words[:-1], knows, "--corpus", tmp_path / "toy.parquet")
    assert (heard.code, "knows was trained on 1 of the recordings it would be scored on, under these or other names: u3" in heard.err) == (
        2,
        True,
    )
    chosen = Provenance(chosen_on=ChosenOn(fingerprints=(fingerprint(read(rows[3].path)),)))
    tuned = save(
        tmp_path / "tuned", build(run), run, chosen, calibration=Calibration(turns_fitted_on=ChosenOn(speakers=("toy/s0", "toy/s1")))
    )
    told = moodcast(*words[:-1], tuned, "--corpus", tmp_path / "toy.parquet").err
    assert "epoch and temperature of the bundle were chosen on 1 of these speakers" in told
    assert "the temperature of turns was fitted on 2 of these speakers" in told
    both = moodcast(*words, "--corpus", tmp_path / "toy.parquet", "--reference", tmp_path)
    assert (both.code, "leave out recordings" in both.err) == (2, True)
    neither = moodcast("evaluate-podcast", "--bundle", bundle)
    assert (neither.code, "--simulate N" in neither.err) == (2, True)


def test_one_rttm_cannot_describe_two_recordings(moodcast: Command, bundle: Path) -> None:
    said = moodcast("analyze", "a.wav", "b.wav", "--bundle", bundle, "--rttm", "a.rttm")
    assert said.code == 2
    assert "--rttm" in said.err
