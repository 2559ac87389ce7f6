"""What the README shows is run; its table is up to date. Commands that cannot be run here: test_docs.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:<!-- (?P<how>runs[^>]*?|not run[^>]*?) -->\n)?```(?P<language>sh|python)\n(?P<text>.*?)```", re.DOTALL)
BLOCKS = [match.groupdict() for match in BLOCK.finditer(README)]
HEADER = "id,path,corpus,speaker,emotion"


def blocks(how: str, language: str) -> list[str]:
    return [block["text"] for block in BLOCKS if block["how"] == how and block["language"] == language]


@pytest.fixture
def desk(tmp_path: Path, speechlike: Callable[..., np.ndarray], write_wav: Callable[..., Path]) -> Path:
    """A folder with the files that the README speaks of: podcast.mp3, clip.wav, mine.csv with ten speakers."""
    talk = np.concatenate([speechlike(4.0, seed=seed, hz=hz) for seed, hz in enumerate((110, 210, 110, 210))])
    with av.open(str(tmp_path / "podcast.mp3"), "w") as out:
        stream = out.add_stream("mp3", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray((talk * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    write_wav("clip.wav", speechlike(2.0))
    (tmp_path / "clips").mkdir()
    rows = [HEADER]
    for speaker in range(10):
        for emotion, hz in {"angry": 260, "happy": 220, "neutral": 150, "sad": 110}.items():
            write_wav(f"clips/s{speaker}_{emotion}.wav", speechlike(0.8, seed=speaker, hz=hz + speaker))
            rows.append(f"s{speaker}_{emotion},clips/s{speaker}_{emotion}.wav,mine,s{speaker},{emotion}")
    (tmp_path / "mine.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def shell(text: str, where: Path) -> str:
    """Run lines as a person would, in the environment of these tests; what they printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", text],
        cwd=where,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_says_whether_it_is_run() -> None:
    assert len(BLOCKS) >= 5
    assert [block["text"] for block in BLOCKS if block["how"] is None] == []


def test_the_examples_of_your_own_podcast_run(desk: Path) -> None:
    (text,) = blocks("runs", "sh")
    said = shell(text, desk)
    page = (desk / "out" / "podcast.html").read_text()
    assert 'id="sound"' in page
    assert 'src="podcast.mp3"' not in page
    assert (desk / "episode" / "podcast.json").exists()
    assert '"emotion"' in said


def test_the_example_in_python_runs(desk: Path) -> None:
    (text,) = blocks("runs", "python")
    (desk / "example.py").write_text(text)
    assert "SPEAKER" in shell("python example.py", desk).upper()


@pytest.mark.ray
def test_the_example_of_your_own_corpus_runs(desk: Path) -> None:
    assert HEADER in README
    (text,) = blocks("runs with ray", "sh")
    said = shell(text, desk)
    assert "UAR" in said
    assert (desk / "runs" / "first" / "bundle" / "bundle.json").exists()


@pytest.mark.corpora
def test_the_examples_of_known_corpora_run(desk: Path, corpora: Path) -> None:
    (desk / "corpora").symlink_to(corpora)
    (text,) = blocks("runs with corpora", "sh")
    shell(text, desk)
    assert len(list(desk.glob("emodb.fold?.parquet"))) == 5


def test_examples_that_are_not_run_name_targets_that_exist() -> None:
    lines = [line for block in BLOCKS if block["how"].startswith("not run") for line in block["text"].splitlines()]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = {line.split()[1] for line in lines if line.startswith("make ")}
    assert named == {"demo", "test"}
    assert named <= set(targets)


def test_the_table_of_methods_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, "scripts/methods_table.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
