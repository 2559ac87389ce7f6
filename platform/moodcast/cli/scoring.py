"""The verbs about a finished bundle: `evaluate` scores it, `calibrate` makes it as sure as it is right, the rest carry it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moodcast.cli.words import fail, find_run, job_names, options, progress, sort_words

BundleArgument = Annotated[str, typer.Argument(metavar="BUNDLE", help='A bundle\'s folder, or "default", which ships with moodcast.')]


def evaluate(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help='A bundle\'s folder, or "default"; with --folds a job, such as erm.')],
    words: Annotated[list[str], typer.Argument(metavar="MANIFEST|FIELD=VALUE", help="Manifests; with --folds also fields.")],
    split: Annotated[str, typer.Option(help="Which side of the manifest is scored.")] = "test",
    against: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Another bundle (or other folds), for the paired difference.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the whole report here, too.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with plots here, too.")] = None,
    answers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what was answered to each utterance here, as CSV, to score it elsewhere.")
    ] = None,
    plain: Annotated[bool, typer.Option(help="Fit the baseline of plain statistics on the train side, which takes a while once.")] = True,
    allow_leaks: Annotated[bool, typer.Option("--allow-leaks", help="Score what leaks nevertheless; every score then says so.")] = False,
    folds: Annotated[
        int, typer.Option(min=0, help="Train a job this often, each time with other speakers held out, and score them all.")
    ] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the folds; the same name goes on with interrupted ones.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the folds are kept.")] = Path("runs"),
    seed: Annotated[int, typer.Option(min=0, help="Another seed puts speakers into other folds.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Training processes of a fold.")] = 1,
) -> None:
    """Score a bundle on speakers it has never heard, with intervals and trivial baselines beside each score."""
    from moodcast import config
    from moodcast.cli import show

    manifests, changes = sort_words(words)
    if folds and (allow_leaks or split != "test"):
        raise ValueError("--folds makes its own split and says so; leaks are let through by train.allow_leaks=true, not by --allow-leaks")
    if folds and Path(bundle).is_dir():
        raise ValueError(f"--folds trains a job, such as erm, and {bundle} is a folder; without --folds it is scored")
    if folds:
        from moodcast.cluster.folds import cross_validate
        from moodcast.cluster.train import Failed

        run = config.replace_at(find_run(bundle), config.parse_overrides(changes))
        try:
            report = cross_validate(
                run,
                manifests,
                folds,
                out=out,
                name=name or f"{Path(bundle).stem if bundle.endswith(('.py', '.json')) else bundle}-folds",
                seed=seed,
                workers=workers,
                against=against,
                plain=plain,
            )
        except KeyboardInterrupt as stopped:
            fail(str(stopped) or "interrupted", "stopped")
            raise typer.Exit(130) from None
        except Failed as error:
            if options.debug:
                raise
            fail(str(error))
            raise typer.Exit(1) from None
    else:
        import moodcast
        from moodcast.bundle import SHIPPED
        from moodcast.evaluate import evaluate as score
        from moodcast.manifest import read_manifests

        of_folds = {"--name": name is not None, "--out": out != Path("runs"), "--seed": seed != 0, "--workers": workers != 1}
        if given := [option for option, said in of_folds.items() if said]:
            raise ValueError(f"{', '.join(given)} say how folds are trained; give --folds K and a job, or leave them out")
        if changes:
            raise ValueError(f"{changes[0]} changes a field of a run, and a bundle has had its run; fields go with --folds")
        if bundle in job_names() and not Path(bundle).exists() and not (SHIPPED / bundle).exists():
            raise ValueError(f"{bundle} is a job and no bundle: --folds 5 trains and scores it, or name what a run made, runs/NAME/bundle")
        other = moodcast.load(against) if against else None
        with progress("scoring") as advance:
            report = score(
                moodcast.load(bundle), read_manifests(manifests), split, advance, against=other, plain=plain, allow_leaks=allow_leaks
            )
    show.report(report)
    show.written(show.report_files(report, json, html, answers))


def calibrate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder; it is changed.")],
    manifests: Annotated[list[Path], typer.Argument(metavar="MANIFEST", help="Manifests with speakers it was not trained on.")],
    split: Annotated[str, typer.Option(help="Which side the temperature is fitted on.")] = "dev",
    conversations: Annotated[
        int, typer.Option(min=0, metavar="N", help="Hear the utterances as turns of N simulated conversations, as a podcast has them.")
    ] = 0,
    accuracy: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="With --conversations: withhold what is less sure than it takes to be so often right."),
    ] = None,
) -> None:
    """Fit a temperature on held-out speakers and store it in the bundle, so that what is served is as sure as it is right.

    With --conversations it is that of turns of a conversation; that of utterances stays.
    """
    import moodcast
    from moodcast.cli.words import console
    from moodcast.manifest import read_manifests
    from moodcast.study import calibrate as study

    if accuracy is not None and not conversations:
        raise ValueError("--accuracy is about turns of conversations: give --conversations N, too")
    opened = moodcast.load(bundle)
    study.changeable(bundle)  # known before hours of listening
    rows = read_manifests(manifests)
    if split not in (have := sorted({row.split for row in rows if row.split})):
        raise ValueError(f"no utterance of the manifest has split {split!r}; it has {', '.join(have) or 'no splits'}")
    with progress("listening") as advance:
        found = (
            study.fit_conversations(opened, rows, split, conversations, accuracy, progress=advance)
            if conversations
            else study.fit(opened, rows, split, progress=advance)
        )
    what, heard, people, temperature = (
        ("turns", found.num_turns, found.num_turn_speakers, found.turn_temperature)
        if conversations
        else ("utterances", found.num_utterances, found.num_speakers, found.temperature)
    )
    if not heard or temperature is None:
        raise ValueError(f"split {split!r} holds fewer than {study.FEWEST} {what} with the bundle's classes; a temperature would be chance")
    study.store(bundle, found)
    bound = f"; turns below a confidence of {found.min_confidence:g} get no emotion" if found.min_confidence else ""
    console().print(f"temperature {temperature:.3f}, fitted on {heard} {what} of {people} speakers{bound}")


def push(
    bundle: BundleArgument,
    target: Annotated[str, typer.Argument(metavar="OWNER/NAME|FOLDER", help="A place on a hub, or a folder here (./name).")],
    public: Annotated[bool, typer.Option("--public", help="Make a new place on the hub visible to everybody.")] = False,
    licence: Annotated[str, typer.Option(help="Terms of the weights, as hubs call them: other, apache-2.0, cc-by-4.0, ...")] = "other",
) -> None:
    """Put a bundle on a Hugging Face hub or into a folder of that form. A token is taken from HF_TOKEN."""
    from moodcast import hub
    from moodcast.cli import show

    show.written([hub.push(bundle, target, private=not public, license_name=licence)])


def pull(
    source: Annotated[str, typer.Argument(metavar="OWNER/NAME|FOLDER", help="A place on a hub, or a folder here (./name).")],
    into: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the bundle is kept.")],
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit of the hub.")] = None,
    sha256: Annotated[str | None, typer.Option(help="The bundle's SHA-256 or its beginning, if you know which it must be.")] = None,
) -> None:
    """Take a bundle from a Hugging Face hub or a folder of that form; it is checked before it is kept."""
    from moodcast import hub
    from moodcast.cli import show

    show.written([hub.pull(source, into, revision=revision, sha256=sha256)])


def export(
    bundle: BundleArgument,
    onnx: Annotated[Path, typer.Option("--onnx", metavar="FILE", help="The ONNX file to write.")],
) -> None:
    """Write a bundle as ONNX: chunks of a waveform in, log-probabilities out, the same answers."""
    import moodcast
    from moodcast.cli import show
    from moodcast.export import to_onnx

    show.written([to_onnx(moodcast.load(bundle), onnx)])
