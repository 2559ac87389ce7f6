"""The verb about searching: `tune SPACE MANIFEST...` runs a sweep or goes on with one, `tune report FOLDER` says what came of it."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import shlex
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from moodcast.cli.words import fail, find_job, sort_words
from moodcast.cluster.options import Target, Track

if TYPE_CHECKING:
    from moodcast.cluster.ledger import Ledger


SETTLED = ("trials", "searcher", "scheduler", "out", "folds", "seeds", "seed", "grace", "factor", "interval", "keep")  # once begun


class SearchFirst(TyperGroup):
    """`moodcast tune erm m.parquet` is `moodcast tune search erm m.parquet`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the word in where it was left out."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["search", *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Both verbs, and all of the one whose word may be left out."""
        super().format_help(ctx, formatter)
        first = self.commands["search"]
        first.format_help(type(ctx)(first, info_name="search", parent=ctx), formatter)


app = typer.Typer(
    name="tune",
    cls=SearchFirst,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Search settings over inner speaker folds: `moodcast tune SPACE MANIFEST...`, then `moodcast tune report FOLDER`.",
)


@app.command()
def search(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="SPACE MANIFEST|FIELD=VALUE", help="A file of tune_spaces/, manifests, and fields that are settled."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="How many settings are tried.")] = 40,
    searcher: Annotated[str, typer.Option(help="optuna, random, bohb-like or pbt (schedules).")] = "optuna",
    scheduler: Annotated[str, typer.Option(help="asha stops trials that fall behind; none runs all to their end.")] = "asha",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="The sweep's folder; by default a new one below sweeps/.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Go on with a sweep; it needs no other words.")] = None,
    folds: Annotated[int, typer.Option(min=2, help="Inner speaker folds, made of the training side.")] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="Models of different seeds a fold.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other settings and other folds.")] = 0,
    grace: Annotated[int, typer.Option(min=1, help="Epochs before ASHA may stop a trial.")] = 5,
    factor: Annotated[int, typer.Option(min=2, help="ASHA lets the best one in so many go on.")] = 3,
    interval: Annotated[int, typer.Option(min=1, help="Epochs between two looks at a population (pbt).")] = 5,
    keep: Annotated[int, typer.Option(min=1, help="How many of the best trials keep their bundles.")] = 2,
    concurrent: Annotated[int | None, typer.Option(min=1, help="Trials at once; by default one a core.")] = None,
    gpus: Annotated[
        float, typer.Option(min=0.0, help="Share of a GPU that each trial gets (a worker of --distributed: a whole one).")
    ] = 0.0,
    distributed: Annotated[
        int, typer.Option(min=0, metavar="WORKERS", help="Make each trial a Train run of its own, with so many workers.")
    ] = 0,
    target: Target = None,
    track: Track = None,
) -> None:
    """Search a space over inner speaker folds. What is killed goes on with --resume; test rows are never read."""
    from moodcast.cluster import sweep
    from moodcast.cluster.search import space_of
    from moodcast.cluster.tracker import chosen

    try:
        trackers = chosen(track)
        if resume is not None:
            settled = [f"--{name}" for name in SETTLED if context.get_parameter_source(name).name == "COMMANDLINE"]  # type: ignore[union-attr]
            if given := [*(words or []), *(f"--target {path}" for path in target or []), *settled]:
                raise ValueError(f"--resume goes on with what {resume} began; leave out {' '.join(given)}")
            from moodcast.cluster.ledger import Ledger

            folder = resume
            space = find_space(str(Ledger(folder.absolute()).settings["space"]))
        else:
            folder, space = _begun(
                words or [],
                out,
                sweep.Plan(trials, searcher, scheduler, folds, seeds, seed, grace, factor, interval, keep),
                target or [],
            )
        ledger = sweep.go_on(folder, space_of(space), sweep.Machines(concurrent, gpus, distributed), track=trackers)
    except KeyboardInterrupt as stopped:
        fail(str(stopped) or "interrupted", "stopped")
        raise typer.Exit(130) from None
    except RuntimeError as error:
        fail(str(error))
        raise typer.Exit(1) from None
    _say_what_came(ledger)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a sweep that is done.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="FIELD=VALUE", help="Run a rival sweep of equal budget with these fixed (method.mix.kind=none), too."),
    ] = None,
    against: Annotated[Path | None, typer.Option(metavar="FOLDER", help="A rival sweep of the same rows that is done already.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Fresh seeds that each recipe is trained anew with.")] = 5,
    plain: Annotated[bool, typer.Option(help="The baseline of plain statistics, which takes a while.")] = True,
) -> None:
    """Train the winner anew and score it once on the test speakers, beside what it has to beat: report.html, report.json, winner.json."""
    from moodcast.cluster import sweep, tracker, verdict
    from moodcast.cluster.ledger import Ledger
    from moodcast.cluster.search import space_of

    try:
        if words:
            if against is not None:
                raise ValueError(f"either --against {against} or fields of a rival that is to be run ({' '.join(words)}), not both")
            space = find_space(str(Ledger(folder.absolute()).settings["space"]))
            against = sweep.rival_of(folder, space_of(space), words)
            sweep.go_on(against, space_of(space), track=tracker.remembered(folder))
        found = verdict.report(folder, against=against, seeds=seeds, plain=plain)
    except KeyboardInterrupt as stopped:
        fail(str(stopped) or "interrupted", "stopped")
        raise typer.Exit(130) from None
    _say_the_verdict(found, folder)


def _say_the_verdict(found: dict[str, Any], folder: Path) -> None:
    """The table of scores on unseen speakers, the sentences of the page, and where everything is."""
    from rich.table import Table
    from rich.text import Text

    from moodcast import sweep_page
    from moodcast.cli.words import console
    from moodcast.cluster import retrain, verdict

    people = f"{found['test']['utterances']} utterances of {found['test']['speakers']} speakers"
    seeds = len(found["test"]["seeds"])
    title = f"UAR on {people} that nobody chose by, {seeds} fresh seed{'s' * (seeds > 1)}"
    table = Table(title=title, title_justify="left")
    for name in ("recipe", "UAR %", "winner minus it", "what it is"):
        table.add_column(name, justify="left" if name in ("recipe", "what it is") else "right")
    minus = {row["minus"]: sweep_page.signed(row["uar"]) for row in found["test"]["differences"]}
    for arm in found["test"]["arms"]:
        table.add_row(arm["name"], sweep_page.score(arm["uar"]), minus.get(arm["name"], ""), Text(arm["what"]))
    for beside in found["test"]["baselines"]:
        table.add_row(beside["name"], sweep_page.score(beside["uar"]), sweep_page.signed(beside["above"]), Text(beside["what"]))
    console().print(table)
    for line in sweep_page.verdict(found):
        console().print(Text(line), soft_wrap=True)
    for name in (verdict.PAGE, verdict.DATA, verdict.WINNER, retrain.BUNDLE):
        console().print(Text(f"written: {folder / name}"), soft_wrap=True)


def _begun(words: list[str], out: Path | None, plan: Any, target: list[str]) -> tuple[Path, ModuleType]:
    """The folder of a new sweep, and its space."""
    from moodcast import config
    from moodcast.cluster import sweep
    from moodcast.cluster.search import space_of
    from moodcast.manifest import read_manifests

    if not words:
        raise ValueError(f"which space? wanted `moodcast tune SPACE MANIFEST...`; spaces: {', '.join(space_names())}")
    space, job = find_space(words[0]), find_job(words[0])
    manifests, changes = sort_words(words[1:])
    name = Path(words[0]).stem
    folder = out or Path("sweeps") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    fixed = config.parse_overrides(changes)
    command = shlex.join(["moodcast", *sys.argv[1:]])
    heard = read_manifests(target) if target else ()
    made = sweep.begin(job.RUN, space_of(space), words[0], read_manifests(manifests), folder, plan, fixed, command, heard)
    return made, space


def _say_what_came(ledger: Ledger) -> None:
    """The best trials, how the others ended, and what to do next."""
    from collections import Counter

    from rich.table import Table
    from rich.text import Text

    from moodcast.cli.words import console
    from moodcast.cluster.standing import brief, means_over

    table = Table(title=f"the best of {ledger.wanted} trials: mean UAR over {means_over(ledger)}", title_justify="left")
    for name in ("trial", "inner UAR %", "spread"):
        table.add_column(name, justify="right")
    table.add_column("what is changed")
    ranked = ledger.ranked()
    shown = [trial for number, trial in enumerate(ranked) if number < 5 or trial.origin == "published"]
    for trial in shown:
        table.add_row(str(trial.number), f"{100 * trial.value:.1f}", f"{100 * trial.epochs[-1]['spread']:.1f}", Text(brief(trial, 99)))
    console().print(table)
    counts = Counter(trial.state for trial in ledger.ended)
    console().print(Text("; ".join(f"{count} {state}" for state, count in counts.most_common())), soft_wrap=True)
    for trial in ledger.ended:
        if trial.state in ("failed", "diverged"):
            fail(f"trial {trial.number}: {trial.error}", trial.state)
    if not ranked:
        raise ValueError(f"no trial of {ledger.folder} finished; the first says: {ledger.trials[0].error or ledger.trials[0].state}")
    console().print(Text(f"sweep: {ledger.folder}"), soft_wrap=True)
    console().print(Text(f"an inner score is chosen, not measured; for one that is: moodcast tune report {ledger.folder}"), soft_wrap=True)


def find_space(name: str) -> ModuleType:
    """The module behind "erm" (a file of tune_spaces/), or one of your own that holds RUN and its space: "mine.py", "mylab.mine".

    Raises ValueError with the nearest name where there is none.
    """
    from moodcast.config import suggest

    known = space_names()
    plain = name.removesuffix(".py").removeprefix("./").replace("/", ".").removeprefix("tune_spaces.").removeprefix("jobs.")
    if plain in known:
        return importlib.import_module(f"tune_spaces.{plain}")
    if name.endswith(".py") or "." in plain:
        return find_job(name)
    raise ValueError(f"there is no space '{name}'.{suggest(plain, known)} Spaces: {', '.join(known) or 'none'}")


def space_names() -> list[str]:
    """The files of tune_spaces/."""
    found = importlib.util.find_spec("tune_spaces")
    return sorted(info.name for info in pkgutil.iter_modules(found.submodule_search_locations)) if found else []
