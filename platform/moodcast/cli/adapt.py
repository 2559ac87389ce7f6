"""The verb `adapt`: a bundle moves to recordings without labels, says what to expect, and refuses to get worse where that can be seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodcast.cli.words import console, fail, load_listener, progress, refuse_place, say

if TYPE_CHECKING:
    from moodcast.bundle import Bundle
    from moodcast.cluster.adapt import Adapted, How
    from moodcast.manifest import Utterance

EXPECT = {
    "statistics": "The voices and microphones of these recordings become what is usual; nothing is trained.",
    "sharpen": "What is usual is taken from these recordings, then gains and offsets are trained towards sure answers of every class.",
}
MIXED = "This supposes mixed emotions and, better, several speakers. Without labels nobody can say how right the answers are."

TOLD = "What is known: the default bundle, adapted so, answered other speakers of corpora it had never heard with"
KNOWN = {
    "statistics": f"{TOLD} 5.2 points more UAR (English, ravdess), 7.1 more (Polish, nemo) and as much as before (Urdu); see "
    "docs/adaptation.md.",
    "sharpen": f"{TOLD} 5.5 points more UAR (English, ravdess), 8.9 more (Polish, nemo) and as much as before (Urdu), each emotion "
    "being as common as any other there; see docs/adaptation.md.",
}


def adapt(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help='A bundle\'s folder, or "default", which ships with moodcast.')],
    target: Annotated[Path, typer.Option(metavar="MANIFEST|FOLDER", help="Recordings to adapt to; labels are not looked at.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the adapted bundle.")] = Path("adapted"),
    how: Annotated[
        str | None,
        typer.Option(
            help="statistics (of inputs, nothing trained) or sharpen (which trains); default: statistics where the method keeps any."
        ),
    ] = None,
    source: Annotated[
        list[Path] | None, typer.Option(metavar="MANIFEST", help="Labelled rows of what it was trained on, which may not get worse.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it although something speaks against it; its card says so.")] = False,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Adapt although train and test of the target leak; scores on that test then say so.")
    ] = False,
) -> None:
    """Adapt a bundle to your recordings: another language, other voices, other microphones. No labels are needed.

    Of a manifest the rows whose split is train are heard (all, where none has a split); those of test stay unheard, to score on.
    """
    from moodcast.bundle import refuse_others
    from moodcast.cluster import adapt as adapting
    from moodcast.manifest import read_manifests

    refuse_place(out)
    refuse_others(out)
    opened = load_listener(bundle)
    rows = target_rows(target, allow_leaks)
    chosen = way(opened, how)
    screen = console()
    screen.print(f"{opened.name}: {chosen}, {len(rows)} recordings. {EXPECT[chosen]} {MIXED} {KNOWN[chosen]}")
    with progress("adapting") as advance:
        done = adapting.adapt(
            opened,
            rows,
            chosen,
            source=read_manifests(source) if source else (),
            progress=lambda share, what: advance(share, 1.0, what),
        )
    for line in lines(done):
        screen.print(line)
    for remark in done.check.remarks:
        say(remark, "note")
    if done.check.why and not force:
        fail(f"the adapted bundle looks worse than {opened.name}: {'; '.join(done.check.why)}. Nothing was written; --force writes it")
        raise typer.Exit(1)
    screen.print(f"written: {save(done, opened, bundle, out)}")


def target_rows(target: Path, allow_leaks: bool = False) -> list[Utterance]:
    """What is heard of a manifest, or of a folder of recordings. Raises ValueError for nothing, and for leaks."""
    from moodcast.corpora import folder
    from moodcast.manifest import read_manifest
    from moodcast.transfer import TransferTask

    rows = folder.prepare(target) if target.is_dir() else read_manifest(target)
    return list(TransferTask.of([], rows, allow_leaks=allow_leaks, how="--allow-leaks").adapt)


def way(opened: Bundle, how: str | None) -> How:
    """The way that was asked for, or the default: statistics where the method keeps any, else sharpen."""
    from moodcast.method import Method

    if how is None:
        return "statistics" if type(opened.method).take_statistics is not Method.take_statistics else "sharpen"
    if how not in ("statistics", "sharpen"):
        raise ValueError(f"there is no way {how!r} to adapt; wanted statistics or sharpen")
    return "statistics" if how == "statistics" else "sharpen"


def lines(done: Adapted) -> list[str]:
    """What can be seen without labels, before and after."""
    check = done.check
    counts = ", ".join(f"{name} {old} -> {new}" for (name, old), new in zip(check.counts[0].items(), check.counts[1].values(), strict=True))
    found = [
        f"answers to {check.num_recordings} recordings, before -> after: {counts}",
        f"{100 * check.changed:.0f} % of the answers are others; mean confidence {check.sureness[0]:.2f} -> {check.sureness[1]:.2f}; "
        f"classes in use {check.classes_in_use[0]:.1f} -> {check.classes_in_use[1]:.1f}",
    ]
    if check.source_uar is not None:
        before, after = (100 * value for value in check.source_uar)
        found.append(f"UAR on the source's dev side {before:.1f} -> {after:.1f} %")
    return found


def save(done: Adapted, opened: Bundle, given: str, out: Path) -> Path:
    """Write the adapted bundle with a card that says what was done."""
    from moodcast import bundle as bundles
    from moodcast.cluster.publish import card

    found, known = done.bundle, done.bundle.provenance.adapted_to
    about = [
        f"- from {opened.name} (SHA-256 {opened.sha256[:12]}), {done.how}: {'; '.join(done.notes)}",
        f"- {', '.join(known.corpora)}: {len(known.speakers)} speakers (a recording without a name is its own), {known.hours:.2f} h",
        *(f"- {line}" for line in lines(done)),
        *(f"- {remark}" for remark in done.check.remarks),
        *(f"- written although: {why}" for why in done.check.why),
    ]
    told = {"Adapted, without labels, by `moodcast adapt`; what it scored before is not what it scores now:": about}
    return bundles.save(out, found.method, found.run, found.provenance, found.scores, card(found, out.name, told, MIXED), found.calibration)
