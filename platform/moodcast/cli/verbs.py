"""The verbs: what can be typed, and which part of moodcast answers. Tables live in `show`, words and errors in `words`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodcast.cli import adapt, data, encode, scoring, submit, talks, units
from moodcast.cli import tune as tuning
from moodcast.cli.words import fail, find_run, load_listener, options, progress, run, say, sort_words
from moodcast.cluster.options import Ahead, Gpu, Name, Out, Resume, Target, Track, Transductive, Unseal, Workers, workers_of

if TYPE_CHECKING:
    from moodcast.answer import Answer
    from moodcast.manifest import Utterance

app = typer.Typer(
    name="moodcast",
    help="Speech emotion recognition on Ray: from a corpus to the timeline of a podcast.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

BundleOption = Annotated[
    str, typer.Option("--bundle", "-b", metavar="FOLDER", help='A bundle\'s folder, or "default", which ships with moodcast.')
]

MANIFESTS = (".parquet", ".jsonl", ".csv")


def say_version(wanted: bool) -> None:
    """Which moodcast this is."""
    if wanted:
        from moodcast import __version__

        print(f"moodcast {__version__}")
        raise typer.Exit


@app.callback()
def moodcast(
    debug: Annotated[bool, typer.Option("--debug", envvar="MOODCAST_DEBUG", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=say_version, is_eager=True, help="Say which moodcast this is.")] = False,
) -> None:
    """Speech emotion recognition on Ray: from a corpus to the timeline of a podcast."""
    options.debug = debug


def train(
    job: Annotated[
        str,
        typer.Argument(metavar="JOB", help="A file of jobs/ (erm, ...), a dotted module of your own that holds RUN, or a run as a file."),
    ],
    words: Annotated[list[str] | None, typer.Argument(metavar="MANIFEST|FIELD=VALUE", help="Manifests, and fields to change.")] = None,
    workers: Workers = "1",
    gpu: Gpu = None,
    out: Out = Path("runs"),
    name: Name = None,
    resume: Resume = None,
    show_fields: Annotated[bool, typer.Option("--show-fields", help="List every field of the run with its value, and leave.")] = False,
    target: Target = None,
    transductive: Transductive = False,
    unseal: Unseal = False,
    encode_first: Ahead = False,
    track: Track = None,
) -> None:
    """Train a method on Ray. Every field of the run can be changed by its dotted name: `train.lr=1e-4 chunks.length_s=0.5`."""
    from moodcast import config
    from moodcast.cli import show

    settings = find_run(job)
    manifests, changes = sort_words(words or [])
    if resume is not None and not job.endswith(".json"):
        from moodcast.cluster.job import going_on_with

        settings = going_on_with(settings, resume)
    settings = config.replace_at(settings, config.parse_overrides(changes))
    if show_fields:
        show.fields(settings)
        return
    from moodcast.cluster import job as training
    from moodcast.cluster.stores import view_of
    from moodcast.cluster.tracker import chosen, remembered
    from moodcast.cluster.train import Failed

    try:
        fit = training.train(
            settings,
            manifests,
            out=out,
            name=name,
            workers=workers_of(workers),
            gpu=gpu,
            resume=resume,
            target=target or (),
            transductive=transductive,
            unsealed=unseal,
            ahead=encode_first,
            track=chosen(track),
        )
    except KeyboardInterrupt as stopped:  # its message says where the run stands and how to go on
        fail(str(stopped) or "interrupted", "stopped")
        raise typer.Exit(130) from None
    except Failed as error:
        if options.debug:
            raise
        fail(str(error))
        raise typer.Exit(1) from None
    show.fit(fit.folder, fit.bundle, [view_of(name, fit.folder) for name in remembered(fit.folder)])


def predict(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|MANIFEST", help="Recordings in any common format (wav, mp3, m4a, ogg, mp4, ...), or manifests."),
    ],
    bundle: BundleOption = "default",
    transcriber: talks.Transcribing = None,
    language: talks.Language = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object an utterance and line instead of a table.")] = False,
    same_speaker: Annotated[
        bool, typer.Option("--same-speaker", help="All are of one speaker: centre answers on what is usual for that speaker.")
    ] = False,
    known_mixed: Annotated[
        bool, typer.Option("--known-mixed", help="With --same-speaker: their emotions are mixed, so do not ask the guard.")
    ] = False,
) -> None:
    """Name the emotion of each recording (one speaker each; for conversations see `analyze`), or of each utterance of a manifest.

    A bundle that reads is told the texts of a manifest, and what the transcriber wrote down where there is none.
    """
    from moodcast import audio
    from moodcast.cli import show
    from moodcast.podcast import SPOKEN
    from moodcast.status import status_of

    if known_mixed and not same_speaker:
        raise ValueError("--known-mixed is about the recordings of one speaker; give --same-speaker with it")
    rows = utterances(files)
    if same_speaker and len(people := sorted({row.corpus_speaker for row in rows if row.speaker})) > 1:
        named = f"{', '.join(people[:3])}{', ...' if len(people) > 3 else ''}"
        raise ValueError(f"--same-speaker is about one speaker, and these rows name {len(people)} ({named}); ask about each alone")
    if transcriber is not None and all(row.text for row in rows):
        raise ValueError("the manifest has the text of every utterance, so that there is nothing to write down; leave --transcriber out")
    writer = talks.opened_transcriber(transcriber, language)
    opened = load_listener(bundle)
    texts = writer is not None or (opened.reads and any(row.text for row in rows))
    table = show.Answers(opened.classes, opened.run.labels.attributes, as_json=json, texts=texts)
    failed = 0
    answered: list[tuple[Utterance, Answer]] = []
    with progress("listening", total=len(rows), hidden=json) as advance:
        for number, row in enumerate(rows, start=1):
            try:
                wave = audio.read(row.path, row.start_s, row.stop_s, rate=opened.rate, max_hours=opened.run.audio.max_hours)
                status = status_of(wave, opened.rate)
                if writer is not None and not row.text and status in SPOKEN:
                    row = replace(row, text=writer.transcribe([wave], opened.rate)[0] or None)
                answered.append((row, opened.predict((wave, opened.rate), row.text)))
                if status != "ok":
                    say(f"{row.id}: {status.replace('_', ' ')}: its emotion means nothing, and `analyze` would give it none", "note")
                if not same_speaker:
                    table.add(*answered[-1])
            except (ValueError, OSError) as error:
                if options.debug:
                    raise
                failed += 1
                table.add_failure(row, error)
            advance(number, len(rows))
    if same_speaker and answered:
        from moodcast.study.speaker import adapt_answers

        answers, usual = adapt_answers([answer for _, answer in answered], known_mixed=known_mixed)
        for (row, _), answer in zip(answered, answers, strict=True):
            table.add(row, answer)
        say(usual.why, "speaker")
    table.close()
    if failed:
        raise typer.Exit(1)


def utterances(files: Sequence[Path]) -> list[Utterance]:
    """What is to be answered: the rows of manifests, and each recording as one row, whose id is its path."""
    from moodcast.manifest import Utterance, read_manifest

    found: list[Utterance] = []
    for file in files:
        found += read_manifest(file) if file.suffix in MANIFESTS else [Utterance(id=str(file), path=str(file))]
    return found


def serve(
    host: Annotated[str, typer.Option(help="Where to listen; only this machine can reach 127.0.0.1.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8000,
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", metavar="FOLDER", help="A bundle's folder instead of the default.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Argument(metavar="FIELD=VALUE", help="Settings of the service.")] = None,
) -> None:
    """Serve POST /v1/timeline on Ray Serve until you press Ctrl-C."""
    from moodcast.cluster import serve as serving
    from moodcast.config import parse_overrides

    changes = parse_overrides(settings or [])
    if clash := sorted({"host", "port"} & changes.keys()):
        raise ValueError(f"{clash[0]} is no field of the service but an option: --{clash[0]} {changes[clash[0]]}")
    if bundle is not None and "bundle" in changes:
        raise ValueError(f"--bundle {bundle} and bundle={changes['bundle']} name two bundles; leave one of them out")
    serving.run_forever(host, port, changes if bundle is None else {**changes, "bundle": bundle})


def demo(
    recording: Annotated[
        Path | None, typer.Argument(metavar="RECORDING", help="A recording of yours instead of the one that comes along.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for what the demo writes.")] = Path("out/demo"),
) -> None:
    """A real conversation, from its sound to who felt what, on a local Ray."""
    from moodcast.cli import show
    from moodcast.cluster import demo as demonstration

    demonstration.main(out, recording, show=show.timeline)


PANELS: dict[str, tuple[Callable[..., None] | typer.Typer, ...]] = {
    "Recordings": (talks.analyze, predict, serve, demo),
    "Corpora": (data.prepare, data.audit, units.units),
    "Training": (train, tuning.app, encode.encode, adapt.adapt, submit.submit, submit.jobs),
    "Scores": (scoring.evaluate, scoring.calibrate, talks.evaluate_podcast),
    "Bundles": (scoring.push, scoring.pull, scoring.export),
}

for panel, verbs in PANELS.items():
    for verb in verbs:
        if isinstance(verb, typer.Typer):
            app.add_typer(verb, rich_help_panel=panel)
        else:
            app.command(rich_help_panel=panel)(verb)


def main() -> None:
    """What the command `moodcast` runs: a user's mistake becomes one clear line and exit code 2, never a traceback."""
    run(app)
