"""The study of units from recordings to the page: vowels made by code in two corpora are found, compared and drawn."""

from __future__ import annotations

import json
import wave as wavefile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moodcast import bundle as bundles
from moodcast.chunks import ChunkPlan
from moodcast.cli import verbs
from moodcast.labels import Labels
from moodcast.manifest import Utterance, write_manifest
from moodcast.methods.erm import Erm
from moodcast.methods.functionals import Functionals
from moodcast.run import Run, build
from moodcast.study import frames, hearing, phonetics, units_page
from moodcast.study.vowels import CARDINAL_HZ, VOWELS
from tests.page.opened import axis_error, least_contrast
from tests.study.test_vowels import RATE, voiced

HOSTILE = "</style><script>window.hacked = 1</script>"
EMOTIONS = ("angry", "sad")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """Two corpora of four speakers who say the five vowels in turn, hoarse when they are angry; the first has phone labels."""
    folder, rng, made = tmp_path_factory.mktemp("made"), np.random.default_rng(0), []
    for corpus, language in (("one", "de"), (HOSTILE, "en")):
        for speaker in range(4):
            size = rng.uniform(0.95, 1.05)
            for i in range(12):
                emotion, parts, phones, at_s = EMOTIONS[i % 2], [], [], 0.0
                for vowel in rng.permutation(np.repeat(np.arange(5), 2)):
                    f1, f2 = CARDINAL_HZ[vowel] * size * rng.uniform(0.97, 1.03, 2)
                    sound = voiced(f1, f2, 0.3, 110 + 10 * speaker) * np.hanning(4800)
                    sound = sound + (emotion == "angry") * 0.02 * rng.standard_normal(4800) * np.hanning(4800)
                    parts += [sound, np.zeros(1600)]
                    phones.append((VOWELS[vowel], at_s + 0.03, at_s + 0.27))
                    at_s += 0.4
                talk = np.concatenate(parts) + 2e-4 * rng.standard_normal(len(parts) // 2 * 6400)
                path = folder / f"{language}-{speaker}-{i}.wav"
                with wavefile.open(str(path), "wb") as out:
                    out.setparams((1, 2, RATE, 0, "NONE", ""))
                    out.writeframes((talk * 32767).astype("<i2").tobytes())
                labels = {"phones": tuple(phones)} if corpus == "one" else {}
                made.append(
                    Utterance(path.stem, str(path), corpus=corpus, language=language, speaker=f"s{speaker}", emotion=emotion, **labels)
                )
    return made


@pytest.fixture(scope="module")
def heard(rows: list[Utterance]) -> hearing.Heard:
    return hearing.hear(rows, frames.cepstrum(), RATE)


@pytest.fixture(scope="module")
def found(heard: hearing.Heard) -> dict[str, Any]:
    return {**phonetics.examine(heard, EMOTIONS, 20, draws=40), "frames": "log-mel cepstra"}


def test_phones_of_a_row_that_begins_later_lie_where_they_sound(rows: list[Utterance]) -> None:
    late = replace(rows[0], start_s=0.81, stop_s=2.79)  # the third vowel of ten to the seventh
    whole, part = (hearing.hear([row], frames.cepstrum(), RATE) for row in (rows[0], late))
    assert part.named.tolist() == whole.named[2:7].tolist()
    np.testing.assert_allclose(part.formants, whole.formants[2:7], rtol=0.03)


def test_made_vowels_are_the_same_sounds_in_two_corpora(found: dict[str, Any]) -> None:
    assert {corpus["name"]: corpus["vowels_by"] for corpus in found["corpora"]} == {"one": "phones", HOSTILE: "acoustic"}
    assert found["validation"]["separation"] > 0.9
    assert found["validation"]["separation_p"] < 0.02
    assert found["validation"]["acoustic_names"]["mean_recall"] > 0.6
    assert all(corpus["information"] > 0.5 for corpus in found["corpora"])
    [pair] = found["pairs"]
    assert pair["same_vowel"][0] > 0 > pair["other_vowel"]
    assert found["control"] is None  # no two corpora of one language
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_an_emotion_that_changes_the_voice_is_seen_in_both_corpora(found: dict[str, Any]) -> None:
    effects = [value for row in found["emotion_effect"]["effect"] for value in row if value is not None]
    assert len(effects) >= 4
    assert np.median(effects) > 0.1
    assert any("Emotion moves" in said for said in units_page.verdicts(found))


def test_the_same_seed_finds_the_same(heard: hearing.Heard) -> None:
    first, second, other = (phonetics.examine(heard, EMOTIONS, 20, seed, draws=3) for seed in (0, 0, 1))
    assert first == second
    assert first["likeness"] != other["likeness"]


def test_a_few_are_whole_speakers_with_every_emotion(rows: list[Utterance]) -> None:
    few = phonetics.few(rows, EMOTIONS, 10)
    assert [sum(row.corpus == corpus for row in few) for corpus in ("one", HOSTILE)] == [10, 10]
    assert sum(row.emotion == "sad" for row in few) == 10
    assert phonetics.few(rows, EMOTIONS, 48) == sorted(rows, key=lambda row: (row.corpus, row.id))  # nothing to leave out
    many = [Utterance(f"{s:02}-{i:02}", "-", corpus="c", speaker=str(s), emotion=EMOTIONS[i % 2]) for s in range(40) for i in range(20)]
    assert len({row.speaker for row in phonetics.few(many, EMOTIONS, 100)}) == 12
    assert len(phonetics.few(many, EMOTIONS, 700)) == 700
    assert phonetics.few(rows, ("happy",), 10) == []


def test_two_corpora_of_one_language_are_the_control(rows: list[Utterance]) -> None:
    third = [
        Utterance(f"x{row.id}", row.path, corpus="third", language="en", speaker=row.speaker, emotion=row.emotion) for row in rows[48:]
    ]
    heard = hearing.hear([*rows, *third], frames.cepstrum(), RATE)
    control = phonetics.examine(heard, EMOTIONS, 20, draws=10)["control"]
    assert control["num_pairs"] == [1, 2]
    assert control["difference"][0] > 0  # the third is a copy of the second
    assert control["difference"][1] <= control["difference"][0] <= control["difference"][2]


def test_frames_of_an_encoder_lie_where_they_were_heard(rows: list[Utterance], tmp_path: Path) -> None:
    quiet = np.zeros(2 * RATE, dtype=np.float32)
    quiet[RATE : RATE + 4800] = voiced(700, 1300)
    run = Run(Erm.Config(), Labels(EMOTIONS), chunks=ChunkPlan(0.5, hop_s=0.5))
    opened = bundles.load(bundles.save(tmp_path / "erm", build(run), run))
    for framer in (frames.cepstrum(), frames.of_encoder("random/hubert", 1), frames.of_bundle(opened), frames.of_bundle(opened, 0)):
        found, middles = framer(quiet)
        assert len(found) == len(middles)
        assert np.all(np.diff(middles) > 0)
        assert 0 < middles[0] < 0.05
        assert 1.9 < middles[-1] < 2.0
        silent = found[middles < 0.8]
        loud = found[(middles > 1.05) & (middles < 1.25)]
        assert np.linalg.norm(loud.mean(0) - silent.mean(0)) > 2 * np.linalg.norm(silent.std(0)) + 1e-6


def test_layers_that_are_not_there_and_bundles_without_an_encoder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layers 0 to 2"):
        frames.of_encoder("random/wavlm", 7)
    run = Run(Functionals.Config(), Labels(EMOTIONS))
    opened = bundles.load(bundles.save(tmp_path / "plain", build(run), run))
    with pytest.raises(ValueError, match="Functionals has no encoder"):
        frames.of_bundle(opened)


def test_the_command_writes_a_page_and_json(rows: list[Utterance], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "made.jsonl"
    write_manifest([*rows, replace(rows[0], id="x/1", corpus="x", emotion=None)], manifest)
    words = ["units", str(manifest), "--emotions", "angry,sad", "-k", "12", "--html", str(tmp_path / "a" / "u.html")]
    verbs.app([*words, "--json", str(tmp_path / "u.json"), "--acoustic"], standalone_mode=False)
    said = capsys.readouterr()
    assert "The same vowel of two corpora is more alike" in said.out
    assert "x: left out, no utterance has one of the emotions angry, sad" in said.err
    found = json.loads((tmp_path / "u.json").read_text())
    assert (found["num_units"], found["frames"]) == (12, "log-mel cepstra")
    assert {corpus["vowels_by"] for corpus in found["corpora"]} == {"acoustic"}
    assert (tmp_path / "a" / "u.html").read_text() == units_page.render(found)
    mistakes = (
        (["--encoder", "x", "--bundle", "y"], "both name an encoder"),
        (["--layer", "2"], "--layer 2 is of"),
        (["-k", "99999"], r"99999 units of \d+ frames: wanted more utterances, or fewer units \(-k \d+ at most\)"),
    )
    for wrong, complaint in mistakes:
        with pytest.raises(ValueError, match=complaint):
            verbs.app([*words, *wrong], standalone_mode=False)


def test_no_page_is_written_that_nobody_named(
    rows: list[Utterance], found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hearing, "hear", lambda *_, **__: None)
    monkeypatch.setattr(phonetics, "examine", lambda *_: dict(found))
    write_manifest(rows, "m.csv")
    Path("units.html").write_text("an older study")
    verbs.app(["units", "m.csv", "--emotions", "angry,sad"], standalone_mode=False)
    assert Path("units.html").read_text() == "an older study"
    assert {path.name for path in tmp_path.iterdir()} == {"m.csv", "units.html"}


def test_a_page_loads_nothing_runs_nothing_and_escapes_names(found: dict[str, Any]) -> None:
    page = units_page.render(found)
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page
    for part in ("corpora", "likeness", "pairs", "emotions", "units", "validation", "notes"):
        assert f'<section id="{part}">' in page


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1100])
def test_the_page_opens_in_a_browser_and_fits_its_window(browser: Any, found: dict[str, Any], tmp_path: Path, width: int) -> None:
    path = tmp_path / "units.html"
    path.write_text(units_page.render(found), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 800})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.hacked") is None
    assert page.locator("#likeness td.self").count() == 10
    assert page.locator("#units svg").count() == sum(cell["reported"] for cell in found["cells"])
    track, dot = page.locator("#pairs .track").first.bounding_box(), page.locator("#pairs .dot").first.bounding_box()
    wanted = (found["pairs"][0]["same_vowel"][0] + 1.5) / 3
    assert (dot["x"] + dot["width"] / 2 - track["x"]) / track["width"] == pytest.approx(min(1.0, wanted), abs=0.02)
    assert axis_error(page, "#pairs", -1.5, 1.5) < 0.01
    assert said == []
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("light", ["light", "dark"])
def test_numbers_on_coloured_cells_can_be_read(browser: Any, found: dict[str, Any], tmp_path: Path, light: str) -> None:
    path = tmp_path / "units.html"
    path.write_text(units_page.render(found), encoding="utf-8")
    page = browser.new_page(color_scheme=light)
    page.goto(path.as_uri())
    for side in ("up", "down"):
        page.evaluate(f"document.querySelector('table.heat td.up, table.heat td.down').className = '{side}'")
        assert least_contrast(page, f"table.heat td.{side}") >= 4.5
    page.close()
