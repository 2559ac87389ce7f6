"""The verbs about conversations: `analyze` says who felt what when, `evaluate-podcast` scores that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moodcast.cli.words import Advance, fail_on, load_listener, named, options, progress, refuse_place, say

if TYPE_CHECKING:
    from moodcast.diarize import Diarizer
    from moodcast.timeline import Timeline
    from moodcast.transcribe import Transcriber

Diarizing = Annotated[
    str | None,
    typer.Option("--diarizer", metavar="FOLDER|OWNER/NAME", help="A pyannote.audio pipeline instead of the diarizer that comes along."),
]
Trusting = Annotated[
    bool, typer.Option("--trust-checkpoint", help="Open the pickled checkpoints of --diarizer, which may run code: you trust their maker.")
]
Voices = Annotated[
    str | None,
    typer.Option("--voiceprint", metavar="FOLDER", help="A bundle that tells voices apart, instead of the one that comes along."),
]
Transcribing = Annotated[
    str | None,
    typer.Option(metavar="FOLDER|OWNER/NAME", help="A speech recogniser of the Hugging Face hub: also write down what was said."),
]
Language = Annotated[str | None, typer.Option(help="The language spoken, for a transcriber of several (de); else it finds out.")]
Adapting = Annotated[
    bool | None,
    typer.Option("--adapt/--no-adapt", help="Centre answers on what is usual for each speaker, where their turns are of mixed emotions."),
]
Smoothing = Annotated[str, typer.Option(metavar="median:N", help="Smooth over N neighbouring chunks of a turn, and N turns of a speaker.")]
Sure = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, help="No emotion below this confidence; else what the bundle itself asks for.")
]


def analyze(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Recordings in any common format (wav, mp3, m4a, ogg, mp4, ...).")],
    bundle: Annotated[
        str, typer.Option("--bundle", "-b", metavar="FOLDER", help='A bundle\'s folder, or "default", which ships with moodcast.')
    ] = "default",
    rttm: Annotated[Path | None, typer.Option(metavar="FILE", help="Who speaks when, if you know it; else it is found out.")] = None,
    diarizer: Diarizing = None,
    trust_checkpoint: Trusting = False,
    voiceprint: Voices = None,
    speakers: Annotated[int | None, typer.Option(min=1, help="How many people speak; else it is estimated.")] = None,
    min_speakers: Annotated[int | None, typer.Option(min=1, help="At least so many people speak.")] = None,
    max_speakers: Annotated[int | None, typer.Option(min=1, help="At most so many people speak.")] = None,
    transcriber: Transcribing = None,
    language: Language = None,
    adapt: Adapting = None,
    smooth: Smoothing = "",
    min_confidence: Sure = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the files of each recording.")] = Path("out"),
    kinds: Annotated[
        str,
        typer.Option(
            "--formats",
            metavar="NAMES",
            help="Which files, by commas: json (by which a second call knows what is done), csv, rttm, html, parquet, audacity, textgrid, "
            "eaf, vtt, audformat.",
        ),
    ] = "json,csv,rttm,html",
    again: Annotated[
        bool, typer.Option("--again", help="Analyse anew what the folder has already, and replace files there whoever made them.")
    ] = False,
) -> None:
    """Who felt what, when: the timeline of each conversation as a table and as files."""
    from moodcast import formats, podcast, refine
    from moodcast.cli import show
    from moodcast.diarize import Given, read_rttm

    if rttm and len(files) > 1:
        raise ValueError(f"--rttm tells who speaks in one recording, but {len(files)} came; run analyze once a recording")
    if speakers and (bounds := min_speakers or max_speakers):
        bound = "--min-speakers" if min_speakers else "--max-speakers"
        raise ValueError(f"--speakers {speakers} came with {bound} {bounds}; give the number of speakers or bounds on it, not both")
    asked = podcast.asked_for(speakers, min_speakers, max_speakers)
    finders = {"--diarizer": diarizer, "--voiceprint": voiceprint, "--trust-checkpoint": trust_checkpoint, "--speakers": speakers}
    finders |= {"--min-speakers": min_speakers, "--max-speakers": max_speakers}
    if rttm and (idle := [name for name, value in finders.items() if value]):
        raise ValueError(f"--rttm tells who speaks, so that there is nothing to find out for {', '.join(idle)}; leave one or the other out")
    wanted = formats.parse(kinds)
    refuse_place(out)
    how = refine.Refinement(refine.ADAPT if adapt is None else adapt, smooth, min_confidence)
    stems = named(files)
    if rttm and "rttm" in wanted and (made := out / f"{stems[0]}.rttm").exists() and made.samefile(rttm):
        raise ValueError(f"{rttm} is what --rttm reads and what would be written; choose another --out, or --formats without rttm")
    turns = read_rttm(rttm, likely=stems[0]) if rttm else []
    if rttm and not turns:
        raise ValueError(f"{rttm} holds no turns; wanted lines SPEAKER uri 1 start duration <NA> <NA> speaker <NA> <NA>")
    voices: Diarizer = Given(tuple(turns)) if rttm else opened_diarizer(diarizer, trust_checkpoint, voiceprint)
    writer = opened_transcriber(transcriber, language)
    opened = load_listener(bundle)
    made_by = {**podcast.provenance_of(opened, voices, writer), **asked, **podcast.chosen(opened, how).provenance}
    failed = skipped = 0
    for file, stem in zip(files, stems, strict=True):
        try:
            known = None if again or rttm or not file.is_file() else formats.known(out, stem, file, made_by)
            if known:
                if lacking := formats.lacking(out, stem, wanted):
                    show.written(formats.write(known, out, stem, audio=file, formats=lacking, vouched=True))
                skipped += 1
                continue
            if not again:
                formats.refuse_others(out, stem, wanted, file)
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
            written = formats.write(found, out, stem, audio=file, formats=wanted)
        except (ValueError, OSError) as error:
            if options.debug or len(files) == 1:
                raise
            failed += 1
            fail_on(file, error)
            continue
        show.timeline(found)
        if told := missed(found, speakers or min_speakers or 1):
            say(f"{file}: {told}", "note")
        show.written(written)
    if len(files) > 1 or skipped:
        done = len(files) - failed - skipped
        say(f"{done} analysed, {skipped} were in {out} already (--again does them anew), {failed} failed", "summary")
    if failed:
        raise typer.Exit(1)


def missed(found: Timeline, wanted: int) -> str | None:
    """What there is to say where fewer people than wanted are heard."""
    heard = len(found.speakers)
    if heard >= wanted:
        return None
    if heard:
        return f"{heard} of the {wanted} speakers that were asked for {'is' if heard == 1 else 'are'} heard"
    return "nobody is heard to speak; where somebody does, give their turns with --rttm"


def evaluate_podcast(
    files: Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="Recordings of conversations.")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            "-r",
            metavar="FILE|FOLDER",
            help="A folder with STEM.json, .csv or .rttm for each recording, or one file: who spoke, what was felt.",
        ),
    ] = None,
    simulate: Annotated[
        int, typer.Option(min=0, metavar="N", help="Put N conversations together from the utterances of --corpus instead of FILEs.")
    ] = 0,
    corpus: Annotated[
        list[Path] | None, typer.Option(metavar="MANIFEST", help="With --simulate: whose utterances; may be repeated.")
    ] = None,
    split: Annotated[str, typer.Option(help="With --simulate: which side of the manifests.")] = "test",
    seconds: Annotated[float, typer.Option(min=5.0, help="With --simulate: about how long each is.")] = 120.0,
    seed: Annotated[int, typer.Option(min=0, help="With --simulate: another seed makes other conversations.")] = 0,
    bundle: Annotated[str, typer.Option("--bundle", "-b", metavar="FOLDER", help="The bundle that answers.")] = "default",
    diarizer: Diarizing = None,
    trust_checkpoint: Trusting = False,
    voiceprint: Voices = None,
    smooth: Smoothing = "",
    min_confidence: Sure = None,
    uem: Annotated[Path | None, typer.Option(metavar="FILE", help="UEM: what is scored of each recording; else all of it.")] = None,
    collar: Annotated[
        float, typer.Option(min=0.0, help="Seconds around each reference boundary that do not count, half on each side.")
    ] = 0.0,
    overlap: Annotated[bool, typer.Option("--overlap/--no-overlap", help="Score speech of several at once.")] = True,
    speakers: Annotated[int | None, typer.Option(min=1, help="How many people speak; else it is estimated.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write seconds, rates and curves here, too.")] = None,
) -> None:
    """Score the whole chain: who spoke when, what was felt, both, how sure, and what perfect turns would buy."""
    from json import dumps

    from moodcast import podcast
    from moodcast.cli import show
    from moodcast.diarize import Given
    from moodcast.refine import Refinement, refined
    from moodcast.study import conversation

    if simulate and (files or reference or uem):
        raise ValueError("--simulate makes conversations and their references itself: leave out recordings, --reference and --uem")
    recordings, notes = (
        simulated_talks(bundle, corpus or [], split, simulate, seconds, seed, diarizer, voiceprint)
        if simulate
        else referred_talks(files or [], reference, uem, corpus or [])
    )
    opened = load_listener(bundle)
    if strange := conversation.unanswerable(((truth, region) for _, _, truth, region in recordings), opened.classes):
        named_ones = ", ".join(f"{name} ({seconds:.1f} s)" for name, seconds in strange.items())
        notes = [*notes, f"{opened.name} does not know these emotions of the references, and is wrong wherever they are: {named_ones}"]
    voices = opened_diarizer(diarizer, trust_checkpoint, voiceprint)
    raw_way, adapted_way = (Refinement(adapt, smooth, min_confidence) for adapt in (False, True))
    scores: dict[str, list[conversation.Score]] = {}
    failed = 0
    with progress("listening", total=len(recordings)) as advance:
        for number, (name, sound, truth, region) in enumerate(recordings, start=1):
            told: dict[str, dict[str, Timeline]] = {}
            try:
                for kind, who, asked in (
                    ("reference turns", Given(conversation.turns(truth)), None),
                    ("predicted turns", voices, speakers),
                ):
                    raw = opened.timeline(sound(), diarizer=who, num_speakers=asked, refine=Refinement(False, "", 0.0))
                    ways = {kind: raw_way, f"{kind}, adapted": adapted_way}
                    told[kind] = {each: refined(raw, podcast.chosen(opened, way)) for each, way in ways.items()}
                trivial = {"trivial": conversation.trivial(raw, opened.provenance.class_counts)}
                answers = {**told["predicted turns"], **trivial, **told["reference turns"]}
                found = {kind: conversation.score(truth, answer, region, collar, overlap) for kind, answer in answers.items()}
            except (ValueError, OSError) as error:
                if options.debug or len(recordings) == 1:
                    raise
                failed += 1
                fail_on(name, error)
            else:
                for kind, score in found.items():
                    scores.setdefault(kind, []).append(score)
            advance(number, len(recordings))
    if failed:
        notes = [*notes, f"{failed} of {len(recordings)} recordings could not be scored, and are in none of these figures"]
    show.conversations(scores, collar, overlap)
    for note in notes:
        say(note, "note")
    if json:
        data = {kind: conversation.to_dict(each) for kind, each in scores.items()}
        about = {
            "collar_s": collar,
            "overlap": overlap,
            "bundle_sha256": opened.sha256,
            "diarizer": getattr(voices, "name", ""),
            "notes": notes,
        }
        show.written([show.save(json, dumps({**about, **data}, indent=1, ensure_ascii=False) + "\n")])
    if failed:
        raise typer.Exit(1)


Recording = tuple[str, Callable[[], Any], "Timeline", Any]  # its name, what opens the sound, the truth about it, and what is scored


def referred_talks(
    files: Sequence[Path], reference: Path | None, uem: Path | None, corpus: Sequence[Path]
) -> tuple[list[Recording], list[str]]:
    """Recordings with their references. Raises ValueError, before any work, where one is missing."""
    from moodcast.study import conversation
    from moodcast.texts import one_word

    if not files or reference is None:
        raise ValueError("give recordings and their --reference, or --simulate N --corpus MANIFEST to put conversations together")
    if corpus:
        raise ValueError("--corpus says whose utterances conversations are made of, with --simulate N")
    given = conversation.read_uem(uem) if uem else {}
    regions = {file.stem: given.get(file.stem, given.get(one_word(file.stem))) for file in files}
    if absent := [stem for stem, region in regions.items() if uem and region is None]:
        raise ValueError(f"{uem} does not say what is scored of {absent[0]}; it has {', '.join(sorted(given)[:12]) or 'nothing'}")
    if gone := [str(file) for file in files if not file.is_file()]:
        raise ValueError(f"there is no recording {gone[0]}")
    if len(files) > 1 and reference.is_file() and reference.suffix.lower() != ".rttm":
        raise ValueError(f"{reference} is the reference of one recording, but {len(files)} came; name the folder that has one for each")
    references = [conversation.find_reference(reference, file.stem, alone=len(files) == 1) for file in files]
    return [(str(file), partial(str, file), truth, regions[file.stem]) for file, truth in zip(files, references, strict=True)], []


def simulated_talks(
    bundle: str,
    corpus: Sequence[Path],
    split: str,
    num: int,
    seconds: float,
    seed: int,
    diarizer: str | None,
    voiceprint: str | None,
) -> tuple[list[Recording], list[str]]:
    """Conversations put together, and what must be said about them.

    Raises ValueError where the bundle was trained on their speakers or, whatever these are called here, on their recordings.
    """
    from dataclasses import replace

    import moodcast
    from moodcast import evaluate
    from moodcast.cache import open_waves
    from moodcast.embedded import VOICEPRINT
    from moodcast.manifest import read_manifests
    from moodcast.pipelines import holds_segmentation
    from moodcast.provenance import known_among
    from moodcast.study.talks import SCENE, simulated

    if not corpus:
        raise ValueError("--simulate wants --corpus MANIFEST: whose utterances the conversations are made of")
    opened = load_listener(bundle)
    rows, _ = evaluate.scorable(opened, read_manifests(list(corpus)), split)
    evaluate.refuse_trained_speakers(opened, rows, otherwise="")
    marks = open_waves(rows, opened.rate, max_hours=opened.run.audio.max_hours).fingerprints
    evaluate.refuse_trained_recordings(opened, rows, marks, otherwise="")
    talks = list(simulated(rows, opened.run.labels, num, replace(SCENE, seconds=seconds), seed, opened.rate))
    people = {row.corpus_speaker for row in rows}
    many = f"{num} conversation{'' if num == 1 else 's'} of {len(people)} speakers, seed {seed}"
    notes = [f"{many}: who speaks in several of them makes intervals too narrow"]
    for what, chosen, so in (
        ("epoch and temperature of the bundle were chosen", opened.provenance.chosen_on, "emotions are found too well"),
        ("the temperature of turns was fitted", opened.calibration.turns_fitted_on, "its confidence looks more honest than it is"),
    ):
        sounds = set(chosen.fingerprints)
        same = {row.corpus_speaker for row, mark in zip(rows, marks, strict=True) if mark in sounds}
        if tuned := same.union(known_among(rows, chosen.speakers, chosen.groups)):
            notes.append(f"{what} on {len(tuned)} of these speakers: {so}")
    embedded = diarizer is None or holds_segmentation(diarizer)
    if embedded and (known := people & set(moodcast.load(voiceprint or VOICEPRINT).provenance.speakers)):
        notes.append(f"the voiceprint was trained on {len(known)} of these speakers: who spoke when is found too well")
    return [(talk.reference.uri, partial(tuple, (talk.wave, talk.rate)), talk.reference, None) for talk in talks], notes


def opened_diarizer(source: str | None, trust_checkpoint: bool, voiceprint: str | None) -> Diarizer:
    """The diarizer that was named, opened; the embedded one where none was."""
    from moodcast.embedded import VOICEPRINT
    from moodcast.pipelines import holds_segmentation, open_diarizer

    if trust_checkpoint and source is None:
        raise ValueError("--trust-checkpoint is about the checkpoints of --diarizer, which was not given")
    if source and voiceprint and not holds_segmentation(source):
        raise ValueError(f"--voiceprint is for the diarizer that comes along; the pipeline {source} tells voices apart by its own means")
    return open_diarizer(source, trust_checkpoint=trust_checkpoint, voiceprint=voiceprint or VOICEPRINT)


def opened_transcriber(source: str | None, language: str | None) -> Transcriber | None:
    """The recogniser that was named, opened; None where none was."""
    if source is None:
        if language is not None:
            raise ValueError("--language is about --transcriber, which was not given")
        return None
    from moodcast.transcribe import open_transcriber

    return open_transcriber(source, language or None)


def tell_steps(diarizer: Diarizer, advance: Advance) -> None:
    """A diarizer that knows how far it is says so in the bar."""
    if hasattr(diarizer, "on_progress"):
        diarizer.on_progress = lambda step, done, of: advance(done, of, f"who speaks: {step}")
