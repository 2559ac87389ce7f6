"""The verbs about conversations: `analyze` says who felt what when, `evaluate-podcast` scores that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodcast.cli.words import Advance, fail_on, named, options, progress, say

if TYPE_CHECKING:
    from moodcast.diarize import Diarizer
    from moodcast.transcribe import Transcriber

Diarizing = Annotated[
    str | None,
    typer.Option("--diarizer", metavar="FOLDER|OWNER/NAME", help="A pyannote.audio pipeline instead of the diarizer that comes along."),
]
Trusting = Annotated[
    bool, typer.Option("--trust-checkpoint", help="Open the pickled checkpoints of --diarizer, which may run code: you trust their maker.")
]
Transcribing = Annotated[
    str | None,
    typer.Option(metavar="FOLDER|OWNER/NAME", help="A speech recogniser of the Hugging Face hub: also write down what was said."),
]
Adapting = Annotated[
    bool | None,
    typer.Option("--adapt/--no-adapt", help="Centre answers on what is usual for each speaker, where their turns are of mixed emotions."),
]
Smoothing = Annotated[str, typer.Option(metavar="median:N", help="Smooth over N neighbouring chunks of a turn, and N turns of a speaker.")]
Sure = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, help="No emotion below this confidence; else what the bundle itself asks for.")
]


def analyze(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings in any common format (wav, mp3, m4a, ogg, mp4, ...).")],
    bundle: Annotated[
        str, typer.Option("--bundle", "-b", metavar="FOLDER", help='A bundle\'s folder, or "default", which ships with moodcast.')
    ] = "default",
    rttm: Annotated[Path | None, typer.Option(help="Who speaks when, if you know it; else it is found out.")] = None,
    diarizer: Diarizing = None,
    trust_checkpoint: Trusting = False,
    speakers: Annotated[int | None, typer.Option(min=1, help="How many people speak; else it is estimated.")] = None,
    min_speakers: Annotated[int | None, typer.Option(min=1, help="At least so many people speak.")] = None,
    max_speakers: Annotated[int | None, typer.Option(min=1, help="At most so many people speak.")] = None,
    transcriber: Transcribing = None,
    language: Annotated[str | None, typer.Option(help="The language spoken, for a transcriber of several (de); else it finds out.")] = None,
    adapt: Adapting = None,
    smooth: Smoothing = "",
    min_confidence: Sure = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files of each recording.")] = Path("out"),
    kinds: Annotated[
        str,
        typer.Option("--formats", help="Which: json, csv, rttm, html, parquet, audacity, textgrid, eaf, vtt, audformat."),
    ] = "json,csv,rttm,html",
    again: Annotated[bool, typer.Option("--again", help="Also what is in the folder already, by the same bundle.")] = False,
) -> None:
    """Who felt what, when: the timeline of each conversation as a table and as files."""
    import moodcast
    from moodcast import formats, podcast, refine
    from moodcast.cli import show
    from moodcast.diarize import Given, default_diarizer, read_rttm

    if rttm and len(files) > 1:
        raise ValueError(f"--rttm tells who speaks in one recording, but {len(files)} came; run analyze once a recording")
    if rttm and diarizer:
        raise ValueError("--rttm tells who speaks, so that --diarizer has nothing to find out; leave one of them out")
    wanted = formats.parse(kinds)
    how = refine.Refinement(refine.ADAPT if adapt is None else adapt, smooth, min_confidence)
    asked = podcast.asked_for(speakers, min_speakers, max_speakers)
    stems = named(files)
    voices: Diarizer = Given(tuple(read_rttm(rttm))) if rttm else opened_diarizer(diarizer, trust_checkpoint) or default_diarizer()
    writer = opened_transcriber(transcriber, language)
    opened = moodcast.load(bundle)
    made_by = {**podcast.provenance_of(opened, voices, writer), **asked, **podcast.chosen(opened, how).provenance}
    failed = skipped = 0
    for file, stem in zip(files, stems, strict=True):
        if not again and rttm is None and file.is_file() and formats.is_done(out, stem, wanted, file, made_by):
            skipped += 1
            continue
        try:
            with progress(f"listening to {file.name}") as advance:
                tell_steps(voices, advance)
                found = opened.timeline(
                    file,
                    diarizer=voices,
                    transcriber=writer,
                    refine=how,
                    num_speakers=speakers,
                    min_speakers=min_speakers,
                    max_speakers=max_speakers,
                    on_segment=lambda segment, tell=advance, file=file: tell(segment.stop_s, None, f"listening to {file.name}"),
                )
        except (ValueError, OSError) as error:
            if options.debug or len(files) == 1:
                raise
            failed += 1
            fail_on(file, error)
            continue
        show.timeline(found)
        show.written(formats.write(found, out, stem, audio=str(file), formats=wanted))
    if len(files) > 1 or skipped:
        done = len(files) - failed - skipped
        say(f"{done} analysed, {skipped} were in {out} already (--again does them anew), {failed} failed", "summary")
    if failed:
        raise typer.Exit(1)


def opened_diarizer(source: str | None, trust_checkpoint: bool) -> Diarizer | None:
    """The pipeline that was named, opened; None where none was."""
    if source is None:
        if trust_checkpoint:
            raise ValueError("--trust-checkpoint is about the checkpoints of --diarizer, which was not given")
        return None
    from moodcast.pipelines import open_pipeline

    return open_pipeline(source, trust_checkpoint=trust_checkpoint)


def opened_transcriber(source: str | None, language: str | None) -> Transcriber | None:
    """The recogniser that was named, opened; None where none was."""
    if source is None:
        if language is not None:
            raise ValueError("--language is about --transcriber, which was not given")
        return None
    from moodcast.transcribe import open_transcriber

    return open_transcriber(source, language)


def tell_steps(diarizer: Diarizer, advance: Advance) -> None:
    """A diarizer that knows how far it is says so in the bar."""
    if hasattr(diarizer, "on_progress"):
        diarizer.on_progress = lambda step, done, of: advance(done, of, f"who speaks: {step}")
