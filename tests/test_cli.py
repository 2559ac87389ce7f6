"""The command line as a person uses it: quick help, clear mistakes, the same answers as the library."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from moodcast.bundle import save
from moodcast.cli import words
from moodcast.labels import Labels
from moodcast.methods.word_chunks import WordChunks
from moodcast.run import Run, build
from tests.recognisers import make_ctc
from tests.typed import Command, untrained


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("bundles") / "small")


VERBS = ("prepare", "train", "evaluate", "predict", "analyze", "serve", "demo")


def test_the_help_names_every_verb(moodcast: Command) -> None:
    said = moodcast("--help")
    assert said.code == 0
    assert all(verb in said.out for verb in VERBS)


def test_the_help_begins_with_what_a_newcomer_wants(moodcast: Command) -> None:
    said = moodcast("--help").out
    places = [said.index(f"─ {panel} ─") for panel in ("Recordings", "Corpora", "Training", "Scores", "Bundles")]
    assert places == sorted(places)
    assert places[0] < said.index("analyze ") < places[1] < said.index("prepare ") < places[2] < said.index("train ") < places[3]


def test_the_version_is_said(moodcast: Command) -> None:
    from moodcast import __version__

    assert moodcast("--version").out == f"moodcast {__version__}\n"


def test_the_help_loads_nothing_heavy_and_takes_less_than_half_a_second() -> None:
    code = (
        "import sys; sys.argv = ['moodcast', '--help']\n"
        "from moodcast.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'ray', 'numpy', 'pandas', 'sklearn', 'scipy', 'pyarrow', 'av') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "analyze" in done.stdout
    before = children()
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert children() - before < 0.5  # seconds of processor: other work on this machine does not count


def children() -> float:
    """Seconds of processor that finished child processes have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(moodcast: Command, verb: str) -> None:
    said = moodcast(verb, "--help")
    assert said.code == 0
    assert "Usage" in said.out


def test_a_mistyped_verb_gets_a_suggestion(moodcast: Command) -> None:
    said = moodcast("analyse")
    assert said.code == 2
    assert "Did you mean 'analyze'?" in said.err


def test_a_mistyped_corpus_gets_a_suggestion(moodcast: Command, tmp_path: Path) -> None:
    said = moodcast("prepare", "crema", tmp_path, "--out", tmp_path / "m.parquet")
    assert said.code == 2
    assert "Did you mean 'cremad'?" in said.err
    assert "Traceback" not in said.err


def test_a_mistyped_job_gets_a_suggestion(moodcast: Command) -> None:
    said = moodcast("train", "emr", "m.parquet")
    assert said.code == 2
    assert "Did you mean 'erm'?" in said.err


def test_a_mistyped_field_gets_a_suggestion(moodcast: Command) -> None:
    said = moodcast("train", "erm", "train.lrr=1e-4", "--show-fields")
    assert said.code == 2
    assert "Did you mean 'train.lr'?" in said.err


def test_a_value_that_does_not_fit_says_what_was_wanted(moodcast: Command) -> None:
    said = moodcast("train", "erm", "train.epochs=many", "--show-fields")
    assert said.code == 2
    assert "train.epochs" in said.err
    assert "int" in said.err


def test_the_fields_of_a_run_are_listed_with_the_changes_made(moodcast: Command) -> None:
    said = moodcast("train", "erm", "train.lr=1e-4", "--show-fields")
    assert said.code == 0
    lines = {parts[1]: parts[2] for line in said.out.splitlines() if len(parts := line.split("│")) > 3}
    values = {name.strip(): value.strip() for name, value in lines.items()}
    assert values["train.lr"] == "0.0001"
    assert "chunks.length_s" in values


def test_a_manifest_that_is_not_there_is_named(moodcast: Command, tmp_path: Path) -> None:
    said = moodcast("train", "erm", tmp_path / "nowhere.parquet")
    assert said.code == 2
    assert "nowhere.parquet" in said.err
    assert "moodcast prepare" in said.err


def test_training_without_a_manifest_says_what_is_missing(moodcast: Command) -> None:
    said = moodcast("train", "erm")
    assert said.code == 2
    assert "manifest" in said.err


def test_a_bundle_that_is_not_there_is_one_clear_line(moodcast: Command, tmp_path: Path) -> None:
    said = moodcast("predict", "--bundle", tmp_path / "nothing", "a.wav")
    assert said.code == 2
    assert said.err.startswith("error: ")
    assert "is not a bundle" in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_debug_shows_the_traceback(moodcast: Command, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a bundle"):
        moodcast("--debug", "predict", "--bundle", tmp_path / "nothing", "a.wav")


def test_predict_prints_the_probabilities_that_the_library_gives(
    moodcast: Command, bundle: Path, write_wav: Callable[..., Path], speechlike: Callable
) -> None:
    from moodcast import load

    file = write_wav("voice.wav", speechlike(1.7))
    said = moodcast("predict", "--json", "--bundle", bundle, file)
    answer = load(bundle).predict(file)
    found = json.loads(said.out)
    assert said.code == 0
    assert found["file"] == str(file)
    assert found["emotion"] == answer.label
    assert found["seconds"] == pytest.approx(1.7)
    assert found["emotions"] == pytest.approx(answer.emotions, abs=1e-5)
    assert len(found["chunks"]) == len(answer.spans)


def test_predict_says_the_attributes_of_a_bundle_that_has_some(
    moodcast: Command, write_wav: Callable[..., Path], speechlike: Callable, tmp_path: Path
) -> None:
    bundle = untrained(tmp_path / "rating", Labels(attributes=("arousal", "valence")))
    file = write_wav("voice.wav", speechlike(1.7))
    found = json.loads(moodcast("predict", "--json", "--bundle", bundle, file).out)["attributes"]
    assert list(found) == ["arousal", "valence"]
    assert all(0 < value < 1 for value in found.values())
    table = moodcast("predict", "--bundle", bundle, file).out
    assert "arousal" in table
    assert f"{found['valence']:.2f}" in table


def test_one_bad_file_does_not_stop_the_rest(moodcast: Command, bundle: Path, write_wav: Callable[..., Path], tone: Callable) -> None:
    good = [write_wav("a.wav", tone(1.0)), write_wav("b.wav", tone(1.0, hz=300))]
    bad = good[0].with_name("notes.wav")
    bad.write_text("this is no audio")
    said = moodcast("predict", "--bundle", bundle, good[0], bad, good[1])
    assert said.code == 1
    assert "a.wav" in said.out
    assert "b.wav" in said.out
    assert "notes.wav" in said.err
    lines = moodcast("predict", "--json", "--bundle", bundle, good[0], bad, good[1]).out.splitlines()
    assert ["error" in json.loads(line) for line in lines] == [False, True, False]


def test_predict_says_where_there_is_nothing_to_hear(
    moodcast: Command, bundle: Path, write_wav: Callable[..., Path], speechlike: Callable
) -> None:
    voice = speechlike(1.0)
    files = [write_wav("voice.wav", voice), write_wav("short.wav", voice[:1600]), write_wav("quiet.wav", 0 * voice)]
    for option in ("--json", "--same-speaker"):
        said = moodcast("predict", "--bundle", bundle, option, *files)
        assert said.code == 0, said.err
        notes = [line for line in said.err.splitlines() if line.startswith("note: ")]
        assert [line.partition(": its emotion means nothing")[0] for line in notes] == [
            f"note: {files[1]}: too short",
            f"note: {files[2]}: silence",
        ]


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that reads."""
    run = Run(method=WordChunks.Config(), labels=Labels(("angry", "sad")))
    return save(tmp_path_factory.mktemp("bundles") / "reading", build(run), run)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ctc(tmp_path_factory.mktemp("recognisers") / "ctc")


def test_predict_reads_the_texts_of_a_manifest_and_each_answer_says_what_it_rests_on(
    moodcast: Command, reading: Path, bundle: Path, write_wav: Callable[..., Path], speechlike: Callable
) -> None:
    from moodcast import audio, load

    file = write_wav("voice.wav", speechlike(3.0))
    manifest = file.with_name("mine.csv")
    manifest.write_text("id,path,start_s,stop_s,text\na,voice.wav,0.5,2.0,so good\nb,voice.wav,2.0,,\n")
    said = moodcast("predict", "--json", "--bundle", reading, manifest, file)
    found = [json.loads(line) for line in said.out.splitlines()]
    assert [(each["file"], each.get("id")) for each in found] == [(str(file), "a"), (str(file), "b"), (str(file), None)]
    assert [each["modalities"] for each in found] == [["audio", "text"], ["audio"], ["audio"]]
    assert [each.get("text") for each in found] == ["so good", None, None]
    assert [each["seconds"] for each in found] == [1.5, 1.0, 3.0]
    wanted = load(reading).predict((audio.read(file, 0.5, 2.0), 16_000), "so good").emotions
    assert found[0]["emotions"] == pytest.approx(wanted, abs=1e-5)
    assert max(abs(wanted[name] - p) for name, p in load(reading).predict((audio.read(file, 0.5, 2.0), 16_000)).emotions.items()) > 1e-5
    table = moodcast("predict", "--bundle", reading, manifest).out
    assert "audio and text" in table
    assert "so good" in table
    for deaf_to_words in (("--bundle", reading, file), ("--bundle", bundle, manifest)):
        assert "rests on" not in moodcast("predict", *deaf_to_words).out


def test_predict_writes_down_what_is_said_where_that_is_not_known(
    moodcast: Command, reading: Path, recogniser: Path, write_wav: Callable[..., Path], speechlike: Callable
) -> None:
    from moodcast.transcribe import open_transcriber

    files = [write_wav("voice.wav", speechlike(2.0)), write_wav("quiet.wav", 0 * speechlike(1.0))]
    manifest = files[0].with_name("mine.csv")
    manifest.write_text("id,path,text\na,voice.wav,so good\n")
    said = moodcast("predict", "--json", "--bundle", reading, "--transcriber", recogniser, *files, manifest)
    found = [json.loads(line) for line in said.out.splitlines()]
    written = open_transcriber(recogniser).transcribe([speechlike(2.0)], 16_000)[0]
    assert written
    assert [each.get("text") for each in found] == [written, None, "so good"]
    assert [each["modalities"] for each in found] == [["audio", "text"], ["audio"], ["audio", "text"]]
    refused = moodcast("predict", "--bundle", reading, "--transcriber", recogniser, manifest)
    assert (refused.code, "there is nothing to write down" in refused.err) == (2, True)
    refused = moodcast("predict", "--bundle", reading, "--language", "de", files[0])
    assert (refused.code, "--language is about --transcriber" in refused.err) == (2, True)


def test_predict_takes_the_bundle_that_ships(moodcast: Command, write_wav: Callable[..., Path], speechlike: Callable) -> None:
    said = moodcast("predict", "--json", write_wav("voice.wav", speechlike(2.0)))
    assert said.code == 0
    assert sum(json.loads(said.out)["emotions"].values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.corpora
def test_prepare_writes_a_split_manifest_and_prints_what_is_in_it(moodcast: Command, corpora: Path, tmp_path: Path) -> None:
    from moodcast.manifest import leaks, read_manifest

    said = moodcast("prepare", "emodb", corpora / "emodb", "--out", tmp_path / "emodb.parquet")
    assert said.code == 0, said.err
    assert "535" in said.out
    assert "boredom" in said.out
    rows = read_manifest(tmp_path / "emodb.parquet")
    assert {row.split for row in rows} == {"train", "dev", "test"}
    assert leaks(rows) == {}


@pytest.mark.corpora
def test_prepare_writes_one_manifest_a_fold(moodcast: Command, corpora: Path, tmp_path: Path) -> None:
    from moodcast.manifest import leaks, read_manifest

    said = moodcast("prepare", "emodb", corpora / "emodb", "--out", tmp_path / "emodb.jsonl", "--folds", "5")
    assert said.code == 0, said.err
    tested: list[str] = []
    for fold in range(5):
        rows = read_manifest(tmp_path / f"emodb.fold{fold}.jsonl")
        assert leaks(rows) == {}
        tested += [row.id for row in rows if row.split == "test"]
    assert len(tested) == len(set(tested)) == 535


@pytest.mark.parametrize("name", ["mylab_jobs/mine.py", "mylab_jobs.mine"])
def test_a_job_of_ones_own_is_found_beside_the_user(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mylab_jobs").mkdir()
    (tmp_path / "mylab_jobs" / "mine.py").write_text("RUN = 'mine'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert words.find_job(name).RUN == "mine"


def test_a_module_without_a_run_is_no_job() -> None:
    with pytest.raises(ValueError, match="json.decoder holds no RUN"):
        words.find_job("json.decoder")


def test_a_job_whose_package_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"no job 'nolab\.mine': no module nolab"):
        words.find_job("nolab.mine")


def test_words_after_a_job_are_manifests_or_changes(tmp_path: Path) -> None:
    manifest = tmp_path / "a=b.parquet"
    manifest.touch()
    assert words.sort_words([str(manifest), "train.lr=1"]) == ([manifest], ["train.lr=1"])


def test_recordings_of_one_name_do_not_overwrite_each_other() -> None:
    assert words.named([Path("x/a.wav"), Path("y/a.mp3"), Path("a-2.wav")]) == ["a", "a-2", "a-2-2"]


def test_a_missing_extra_is_named() -> None:
    assert "pip install 'moodcast[ray]'" in str(words.explain(ModuleNotFoundError("no", name="ray.serve")))
    assert "pip install 'moodcast[pyannote]'" in str(words.explain(ModuleNotFoundError("no", name="pyannote.audio")))
    assert words.explain(ModuleNotFoundError("no", name="moodcast.gone")) is None
