"""The default bundle of several seeds of its recipe, with what the folds and the unheard corpora say of it.

    python benchmarks/default_bundle.py run --seeds 0 1 2 --answers ANSWERS --bundles REFITS
    python benchmarks/ship_default_bundle.py REFITS/seed0 REFITS/seed1 REFITS/seed2 --answers ANSWERS

One committee is made of the refitted bundles (`methods.committee.merged`). It is scored by what runs of the same seeds answered in the five
folds, together in the same way, where none had heard the speakers; and by what it answers itself of corpora that it never heard. Its
temperature is fitted on the folds, that of turns on simulated conversations of RAVDESS, which it never heard. The counts are written to
results/default_bundle_together.jsonl, the tables are printed and are in the card.

Figures: those of default_bundle.py's `report`, of the seeds together.

Takes: 15 minutes on two cores, when the runs are made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import default_bundle as recipe
from benchmarks import default_bundle_tables as tables
from benchmarks import fold_answers
from benchmarks.shared import RESULTS, ROOT, begin, options_of
from jobs.default_bundle import NOTES, RUN
from moodcast import baselines, config, lines, manifest, scores
from moodcast import bundle as bundles
from moodcast import evaluate as evaluation
from moodcast import report as pages
from moodcast.bundle import Bundle, Calibration
from moodcast.cache import open_waves
from moodcast.cluster import publish
from moodcast.manifest import Utterance
from moodcast.methods.committee import Committee, merged
from moodcast.run import Run
from moodcast.study import calibrate
from moodcast.whole import write_whole

TALKS, CONVERSATIONS = ("ravdess",), 24  # whose simulated conversations fit the temperature of turns


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("bundles", nargs="+", type=Path, help="of one seed each, refitted on everybody")
    parser.add_argument("--answers", type=Path, required=True, help="the folder that `run --answers` filled")
    parser.add_argument("--into", type=Path, default=ROOT / "platform" / "moodcast" / "bundles" / "default")
    parser.add_argument("--out", type=Path, default=RESULTS / "default_bundle_together.jsonl")
    options = parser.parse_args()
    torch.set_num_threads(1)
    given = [bundles.load(folder) for folder in options.bundles]
    seeds = [own_recipe(one) for one in given]
    method = merged([cast(Committee, one.method) for one in given])
    bundles.round_to_half(method)
    run = replace(given[0].run, method=method.config)
    home = of_folds(run, seeds, options.answers)
    sureness = calibrate.of_answers(home.probabilities, home.truth.tolist(), home.speakers)
    bundle = Bundle(run, method, given[0].provenance, {}, given[0].sha256, options.into.name, sureness)
    heard, unheard = rows_as(tables.HEARD, run, "train"), rows_as(tables.UNHEARD, run, "test")
    talking = calibrate.fit_conversations(bundle, rows_as(TALKS, run, "test"), "test", CONVERSATIONS)
    near, far = of_home(bundle, home, heard), evaluation.evaluate(bundle, [*heard, *unheard], "test")
    write(options.out, seeds, run, home, recipe.counted(run, unheard, np.array(evaluation.answer(bundle, unheard).guess)))
    together, alone = (tables.table(lines.read(path)) for path in (options.out, recipe.OUT))
    told = {
        f"Seeds {seeds} together in {tables.FOLDS} folds (runs that had not heard the speaker; what ships has heard all):": pages.markdown(
            near
        ),
        "This bundle on corpora that it never heard, each recording alone:": pages.markdown(far),
        "The same, beside plain statistics within each corpus on the same folds (below: of the three):": together,
        "Each seed alone (benchmarks/default_bundle.py report):": alone,
    }
    print("\n".join([*together, "", *alone]))
    known = {"folds": near.to_dict(), "unheard": far.to_dict()}
    notes = f"{NOTES.rstrip()}\n\nIts matrices are rounded to float16.\n\n{of_turns(talking)}"
    bundles.save(options.into, method, run, bundle.provenance, known, publish.card(bundle, options.into.name, told, notes), talking)
    print(f"{options.into}: temperature {talking.temperature:.2f} from {talking.num_utterances} answers of the folds. {of_turns(talking)}")
    tables.tell_goals(lines.read(options.out))


def of_turns(known: Calibration) -> str:
    """What the card says of conversations."""
    return (
        f"In conversations its answers are cooled by a temperature of {known.turn_temperature:.2f}, fitted on {known.num_turns} turns of "
        f"{CONVERSATIONS} simulated conversations of {known.num_turn_speakers} speakers of {', '.join(TALKS)}: how sure it is there is not "
        "known from that corpus. Which class it names does not change."
    )


def own_recipe(one: Bundle) -> int:
    """The seed of a bundle that the recipe made. Ends where other settings did."""
    seed = one.run.train.seed
    if replace(one.run, train=replace(one.run.train, threads=0)) != config.replace_at(RUN, {"train.seed": seed}):
        raise SystemExit(f"{one.name} was trained with other settings than jobs/default_bundle.py; only its own folds tell of it")
    return seed


def rows_as(names: Sequence[str], run: Run, split: str) -> list[Utterance]:
    return [replace(row, split=split) for row in recipe.rows_of(names, run)]


def of_folds(run: Run, seeds: Sequence[int], folder: Path) -> scores.Answers:
    """What the runs of these seeds answered in the folds, as one: the normalised product of their answers, each to the power 1/seeds."""
    rows = {row.id: row for row in recipe.rows_of(tables.HEARD, run)}
    known: list[Utterance] = []
    given: list[NDArray[np.float64]] = []
    for fold in range(tables.FOLDS):
        try:
            ids, probabilities = fold_answers.together(folder, fold, seeds, recipe.recipe_of(RUN))
        except ValueError as error:
            raise SystemExit(str(error)) from None
        known += [rows[key] for key in ids]
        given.append(probabilities)
    if len(known) != len(rows):
        raise SystemExit(f"{folder} holds answers to {len(known)} of {len(rows)} recordings; `run` makes the others")
    truth = np.array([run.labels.classes.index(str(run.labels.name(row))) for row in known])
    return scores.Answers(run.labels.classes, tuple(known), truth, np.concatenate(given), evaluation.votes_of(run.labels, known))


def of_home(bundle: Bundle, home: scores.Answers, heard: Sequence[Utterance]) -> scores.Report:
    """The report of the folds."""
    classes = bundle.run.labels.classes
    found = baselines.statistics_of(open_waves(home.rows, baselines.RATE))
    guess = recipe.at_home(found, home.truth, np.array([row.corpus for row in home.rows]), folds_of(home.rows))
    plain = scores.Baseline("plain statistics", "logistic regression on 132 statistics, fitted within each corpus on the same folds", guess)
    besides = [baselines.majority(classes, bundle.provenance.class_counts, home.truth), plain]
    return scores.Report(
        bundle.name,
        bundle.sha256,
        f"{tables.FOLDS} speaker folds",
        classes,
        scores.score_all(
            home, [one for one in besides if one], evaluation.prior(bundle, home), evaluation.votes_mean(bundle.run.labels, heard)
        ),
        {},
        (*evaluation.notes(home.rows, heard), "every speaker was answered by runs of this recipe that had not heard them, not calibrated"),
    )


def folds_of(rows: Sequence[Utterance]) -> NDArray[np.int64]:
    return np.array(manifest.folds(rows, tables.FOLDS, seed=0))


def write(path: Path, seeds: Sequence[int], run: Run, home: scores.Answers, far: recipe.Counts) -> None:
    """The counts of the seeds together, after the baseline's, as default_bundle.py keeps them: its `report --out` reads them."""
    found = [record for record in lines.read(recipe.OUT) if record["seed"] is None]
    folds, guess = folds_of(home.rows), home.probabilities.argmax(1)
    for fold in range(tables.FOLDS):
        here = np.flatnonzero(folds == fold)
        found.append({"task": str(fold), "counts": recipe.counted(run, [home.rows[i] for i in here], guess[here])})
    found.append({"task": tables.REFIT, "counts": far})
    told = f"python benchmarks/ship_default_bundle.py of seeds {', '.join(map(str, seeds))}"
    rows = [{"seed": seeds[0], "together": list(seeds), "command": told, **row} for row in found]
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    begin(main)
