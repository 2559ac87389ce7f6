"""Cross-corpus validation: how much of a score within a corpus is the speakers, how much the corpus.

After Talpur et al., arXiv 2510.26823 (their code and splits are not public). Statistics of utterances, a logistic regression or a small
network, four protocols: "random" folds of a corpus (speakers on both sides: inflated), "group" folds (whole speakers, or dialogues),
"cross" (trained on another corpus) and "others" (trained on all other corpora). All answer the same utterances, so their differences are
paired: random - group is what knowing the speakers is worth, group - cross what the corpus is. Everything that is fitted is fitted on the
training rows; "corpus" normalisation takes the answered corpus' own statistics, from the folds that are not being answered.

Shapes: N utterances, F features, P components, K classes, S speakers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moodcast import metrics
from moodcast.metrics import Interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Protocol = Literal["random", "group", "cross", "others"]
Classifier = Literal["logistic", "mlp"]
Normalise = Literal["source", "corpus"]

FOLDS, INNER = 5, 3
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the logistic regression's fit against its penalty, chosen by inner group folds
FARTHEST = 10.0  # deviations: a feature far outside of training says no more than far
COMPONENTS = 200  # at most, where there are more features than that: principal components, 95 % of the variance
HIDDEN, PENALTY, STEP, EPOCHS, PATIENCE = 64, 1e-3, 1e-3, 60, 6  # of the network


@dataclass(frozen=True)
class Table:
    """One corpus: features [N, F], classes [N], and for each row its speaker, or dialogue, which folds keep together."""

    name: str
    features: Floats
    truth: Ints
    speakers: tuple[str, ...]

    @property
    def groups(self) -> Ints:
        """The speakers as numbers, [N]."""
        return np.asarray(np.unique(self.speakers, return_inverse=True)[1], dtype=np.int64)


@dataclass(frozen=True)
class Cell:
    """One thing to measure. `trained` names the training corpus; "others" for all but the answered one."""

    protocol: Protocol
    trained: str
    answered: str
    features: str
    classifier: Classifier
    normalise: Normalise

    @property
    def key(self) -> str:
        """What tells it from every other."""
        return "/".join(asdict(self).values())


def cells(names: Sequence[str], features: Sequence[str], classifiers: Sequence[Classifier]) -> Iterator[Cell]:
    """Every cell, features first, so that an interrupted study has whole parts."""
    for kind in features:
        for classifier in classifiers:
            for name in names:
                for protocol in ("random", "group"):
                    yield Cell(protocol, name, name, kind, classifier, "source")
                for normalise in ("source", "corpus"):
                    if len(names) > 2:
                        yield Cell("others", "others", name, kind, classifier, normalise)
                    for other in names:
                        if other != name:
                            yield Cell("cross", other, name, kind, classifier, normalise)


def measure(
    cell: Cell, tables: Mapping[str, Table], num_classes: int, seeds: Sequence[int], models: dict[str, Model] | None = None
) -> dict[str, Any]:
    """The answers of a cell as counts by speaker, summed over seeds (a logistic regression has one), with UAR and macro-F1.

    models: where models of whole corpora are kept between cells.
    """
    answered = tables[cell.answered]
    used = seeds if cell.classifier == "mlp" else seeds[:1]
    counts = np.zeros((len(set(answered.speakers)), num_classes, num_classes))
    for seed in used:
        guess = answers(cell, tables, num_classes, seed, {} if models is None else models)
        counts += metrics.by_speaker(answered.truth.tolist(), guess.tolist(), answered.speakers, num_classes)
    return {
        **asdict(cell),
        "seeds": len(used),
        "num_speakers": len(counts),
        "num_utterances": len(answered.truth),
        "uar": _numbers(metrics.speaker_bootstrap(metrics.uar, counts)),
        "macro_f1": _numbers(metrics.speaker_bootstrap(metrics.macro_f1, counts)),
        "recall": metrics.recall(counts.sum(0)).tolist(),
        "counts": counts.astype(int).tolist(),
        "speakers": sorted(set(answered.speakers)),
        "target_audio": cell.normalise == "corpus",
        "target_labels": False,
        "transductive": False,
    }


def answers(cell: Cell, tables: Mapping[str, Table], num_classes: int, seed: int, models: dict[str, Model]) -> Ints:
    """The class that a cell says of every utterance of the answered corpus, [N]."""
    answered = tables[cell.answered]
    if cell.protocol in ("random", "group"):
        guess = np.full(len(answered.truth), -1, dtype=np.int64)
        for fit, test in folds(answered, grouped=cell.protocol == "group", seed=seed):
            model = Model(cell.classifier, num_classes, seed)
            model.fit([answered.features[fit]], [answered.truth[fit]], [answered.groups[fit]], apart=False)
            guess[test] = model.answer(answered.features[test])
        return guess
    sources = [tables[name] for name in tables if name == cell.trained or (cell.protocol == "others" and name != cell.answered)]
    apart = len(sources) > 1 and cell.normalise == "corpus"
    key = "/".join([*(table.name for table in sources), cell.features, cell.classifier, str(apart), str(seed)])
    if key not in models:
        model = Model(cell.classifier, num_classes, seed)
        model.fit([each.features for each in sources], [each.truth for each in sources], [each.groups for each in sources], apart)
        models[key] = model
    model = models[key]
    if cell.normalise == "source":
        return model.answer(answered.features)
    guess = np.full(len(answered.truth), -1, dtype=np.int64)
    for adapt, test in folds(answered, grouped=True, seed=seed, labelled=False):
        guess[test] = model.answer(answered.features[test], like=answered.features[adapt])
    return guess


def folds(table: Table, grouped: bool, seed: int, labelled: bool = True) -> Iterator[tuple[Ints, Ints]]:
    """(rest, fold) of a corpus, five times; grouped: no speaker on both sides; labelled: classes evenly over folds."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold  # type: ignore[import-untyped]

    number = min(FOLDS, len(set(table.speakers))) if grouped else FOLDS
    if not grouped:
        yield from StratifiedKFold(number, shuffle=True, random_state=seed).split(table.features, table.truth)
    elif labelled:
        yield from StratifiedGroupKFold(number, shuffle=True, random_state=seed).split(table.features, table.truth, table.groups)
    else:
        yield from GroupKFold(number).split(table.features, groups=table.groups)


class Model:
    """Standardise, take principal components where features are many, classify; fitted once, on training rows alone."""

    def __init__(self, classifier: Classifier, num_classes: int, seed: int) -> None:
        self.classifier, self.num_classes, self.seed = classifier, num_classes, seed

    def fit(self, features: Sequence[Floats], truth: Sequence[Ints], groups: Sequence[Ints], apart: bool) -> None:
        """Fit on one or several corpora; apart: each is standardised by its own statistics, else all by those of all."""
        together = np.concatenate([np.nan_to_num(each) for each in features])
        self.scale = statistics(together)
        self.varies = self.scale[1] > 1e-9  # constant features say nothing
        self.apart = apart
        standard = np.concatenate([self._standard(each, statistics(each) if apart else self.scale) for each in features])
        self.components = components(standard, self.seed)
        found, classes = self._reduced(standard), np.concatenate(truth)
        offsets = np.cumsum([0, *(each.max() + 1 for each in groups)])
        who = np.concatenate([each + offset for each, offset in zip(groups, offsets, strict=False)])
        self.model = logistic(found, classes, who) if self.classifier == "logistic" else network(found, classes, who, self.seed)

    def answer(self, features: Floats, like: Floats | None = None) -> Ints:
        """Classes of [N, F]; like: unlabelled rows by whose statistics they are standardised, instead of the training rows'."""
        standard = self._standard(features, self.scale if like is None else statistics(like))
        return np.asarray(self.model.predict(self._reduced(standard)), dtype=np.int64)

    def _standard(self, features: Floats, scale: tuple[Floats, Floats]) -> Floats:
        centred = (np.nan_to_num(features) - scale[0]) / np.where(scale[1] > 1e-9, scale[1], 1.0)
        return np.asarray(centred[:, self.varies].clip(-FARTHEST, FARTHEST))

    def _reduced(self, standard: Floats) -> Floats:
        return standard if self.components is None else np.asarray(self.components.transform(standard))


def statistics(features: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation of each feature, [F] twice."""
    known = np.nan_to_num(features)
    return np.asarray(known.mean(0)), np.asarray(known.std(0))


def components(standard: Floats, seed: int) -> Any:
    """Principal components of [N, F] that hold 95 % of the variance, COMPONENTS at most; None where features are few."""
    from sklearn.decomposition import PCA  # type: ignore[import-untyped]

    if standard.shape[1] <= COMPONENTS:
        return None
    model = PCA(min(COMPONENTS, len(standard) - 1), svd_solver="randomized", random_state=seed, iterated_power=2).fit(standard)
    kept = int(np.searchsorted(model.explained_variance_.cumsum() / standard.var(0, ddof=1).sum(), 0.95)) + 1
    model.components_ = model.components_[:kept]
    return model


def logistic(found: Floats, truth: Ints, groups: Ints) -> Any:
    """Multinomial logistic regression, classes as heavy as each other; its strength by UAR in inner folds of whole speakers."""
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    scores = np.zeros(len(STRENGTHS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that is cut short at 300 steps is good enough to choose by
        for fit, held in _inner(truth, groups):
            model = LogisticRegression(max_iter=300, tol=1e-3, class_weight="balanced", warm_start=True)
            for i, strength in enumerate(STRENGTHS):
                guess = model.set_params(C=strength).fit(found[fit], truth[fit]).predict(found[held])
                scores[i] += float(metrics.uar(metrics.confusion(truth[held].tolist(), guess.tolist(), int(truth.max()) + 1)))
    best = STRENGTHS[int(scores.argmax())]  # of equals the most modest
    return LogisticRegression(C=best, max_iter=5000, tol=1e-3, class_weight="balanced").fit(found, truth)


def network(found: Floats, truth: Ints, groups: Ints, seed: int) -> Any:
    """One hidden layer by scikit-learn; classes drawn as often as each other, stopped by UAR on speakers held out of the training rows."""
    from sklearn.neural_network import MLPClassifier  # type: ignore[import-untyped]

    rng = np.random.default_rng(seed)
    fit, held = next(iter(_inner(truth, groups)))
    weight = 1.0 / np.bincount(truth[fit], minlength=int(truth.max()) + 1)[truth[fit]]
    model = MLPClassifier((HIDDEN,), alpha=PENALTY, learning_rate_init=STEP, batch_size=32, random_state=seed)
    best, kept, waited = -1.0, None, 0
    for _ in range(EPOCHS):
        drawn = fit[rng.choice(len(fit), size=len(fit), p=weight / weight.sum())]
        model.partial_fit(found[drawn], truth[drawn], classes=np.unique(truth))
        guess = model.predict(found[held])
        score = float(metrics.uar(metrics.confusion(truth[held].tolist(), guess.tolist(), int(truth.max()) + 1)))
        if score > best:
            best, kept, waited = score, ([each.copy() for each in model.coefs_], [each.copy() for each in model.intercepts_]), 0
        elif (waited := waited + 1) >= PATIENCE:
            break
    if kept is not None:
        model.coefs_, model.intercepts_ = kept
    return model


def _inner(truth: Ints, groups: Ints) -> list[tuple[Ints, Ints]]:
    """Inner folds of whole speakers whose training side knows every class; folds of rows where there are none."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    classes = set(truth.tolist())
    found: list[tuple[Ints, Ints]] = []
    if len(set(groups.tolist())) >= INNER:
        split = StratifiedGroupKFold(INNER, shuffle=True, random_state=0).split(truth, truth, groups)
        found = [(fit, held) for fit, held in split if set(truth[fit].tolist()) == classes and len(held)]
    return found or list(StratifiedKFold(INNER, shuffle=True, random_state=0).split(truth, truth))


# --------------------------------------------------------------------------------------------------- readings


def gaps(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What scores within a corpus owe to its speakers and to the corpus, for every answered corpus, features and classifier.

    leakage = random - group, shift = group - cross, total = random - cross, in UAR; cross is the mean over training corpora, without
    the answered corpus' statistics; regained is what those give back of the shift. Intervals by bootstrap over the answered corpus'
    speakers, all protocols resampled together.
    """
    found = []
    sets = sorted({(row["answered"], row["features"], row["classifier"]) for row in rows})
    others = len({row["answered"] for row in rows}) - 1
    for answered, features, classifier in sets:
        own = [row for row in rows if (row["answered"], row["features"], row["classifier"]) == (answered, features, classifier)]
        random, group = ([row for row in own if row["protocol"] == name] for name in ("random", "group"))
        cross, own_statistics = (
            sorted((row for row in own if row["protocol"] == "cross" and row["normalise"] == name), key=lambda row: str(row["trained"]))
            for name in ("source", "corpus")
        )
        if not (random and group and cross) or len({len(cross), len(own_statistics), others}) > 1:
            continue  # a mean over some of the corpora would be another figure
        used = (random[0], group[0], *cross, *own_statistics)
        tables = np.array([row["counts"] for row in used], dtype=float) / np.array([row["seeds"] for row in used])[:, None, None, None]
        by_speaker = np.moveaxis(tables, 0, 1)  # [S, 2 + 2 A, K, K]
        about = {"answered": answered, "features": features, "classifier": classifier, "num_speakers": len(by_speaker)}
        for name, score in {"leakage": _leakage, "shift": _shift, "total": _total, "regained": _regained}.items():
            about[name] = _numbers(metrics.speaker_bootstrap(score, by_speaker, bounds=(-1.0, 1.0)))
        found.append(about)
    return found


def _leakage(sums: Floats) -> Floats:
    score = metrics.uar(sums)
    return np.asarray(score[..., 0] - score[..., 1])


def _shift(sums: Floats) -> Floats:
    score = metrics.uar(sums)
    return np.asarray(score[..., 1] - _halves(score)[0])


def _regained(sums: Floats) -> Floats:
    without, with_statistics = _halves(metrics.uar(sums))
    return np.asarray(with_statistics - without)


def _halves(score: Floats) -> tuple[Floats, Floats]:
    """Means over training corpora, without and with the answered corpus' statistics."""
    count = (score.shape[-1] - 2) // 2
    return np.asarray(score[..., 2 : 2 + count].mean(-1)), np.asarray(score[..., 2 + count :].mean(-1))


def _total(sums: Floats) -> Floats:
    return np.asarray(_leakage(sums) + _shift(sums))


def name_alone(table: Table, num_classes: int) -> float:
    """UAR of saying each speaker's commonest class among the other random folds: what needs no sound at all."""
    guess = np.zeros(len(table.truth), dtype=np.int64)
    for fit, test in folds(table, grouped=False, seed=0):
        usual = np.bincount(table.truth[fit], minlength=num_classes) / len(fit)
        for group in np.unique(table.groups[test]):
            known = np.bincount(table.truth[fit][table.groups[fit] == group], minlength=num_classes)
            guess[test[table.groups[test] == group]] = int(np.argmax(known + usual))
    return float(metrics.uar(metrics.confusion(table.truth.tolist(), guess.tolist(), num_classes)))


def page(rows: Sequence[Mapping[str, Any]], head: str) -> str:
    """Tables of a study as Markdown below `head`, from its rows."""
    parts = [head.rstrip()]
    baseline = {row["answered"]: row for row in rows if row.get("protocol") == "name"}
    rows = [row for row in rows if row.get("protocol") != "name"]
    names = sorted({row["answered"] for row in rows})
    about = (
        "UAR points lost from random folds to whole speakers (leakage) and from there to other corpora (shift); what the answered corpus'\n"
    )
    about += "own statistics, which take no labels, give back of the shift."
    lines = ["| answered | speakers | features | classifier | leakage | shift | both | given back |", "|---|---|---|---|---|---|---|---|"]
    for gap in gaps(rows):
        values = " | ".join(_points(gap[name]) for name in ("leakage", "shift", "total", "regained"))
        lines.append(f"| {gap['answered']} | {gap['num_speakers']} | {gap['features']} | {gap['classifier']} | {values} |")
    if len(lines) > 2:  # else some protocol is missing of every corpus
        parts += [f"## What the gap is made of\n\n{about}", "\n".join(lines)]
    for features, classifier in sorted({(row["features"], row["classifier"]) for row in rows}):
        own = [row for row in rows if (row["features"], row["classifier"]) == (features, classifier)]
        seeds = max(row["seeds"] for row in own)
        about = f"UAR in %, {seeds} seed{'s' * (seeds > 1)}; below each cross figure the one with the answered corpus' statistics."
        parts.append(f"## {features}, {classifier}\n\n{about}")
        lines = [f"| trained on | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for protocol, words in (("random", "itself, random folds"), ("group", "itself, whole speakers")):
            lines.append(f"| {words} | " + " | ".join(_score(own, protocol, name, name, "source") for name in names) + " |")
        for trained in [*names, "others"]:
            protocol = "others" if trained == "others" else "cross"
            found = [[_score(own, protocol, trained, name, kind) for kind in ("source", "corpus")] for name in names]
            if any(source != "–" for source, _ in found):
                lines.append(f"| {trained} | " + " | ".join(f"{a}<br>{b}" if a != "–" else "–" for a, b in found) + " |")
        parts.append("\n".join(lines))
    if baseline:
        told = ", ".join(f"{name} {100 * row['uar']:.1f}" for name, row in sorted(baseline.items()))
        sizes = sorted({len(row["counts"][0]) for row in rows})
        chance = f" Chance is {' or '.join(f'{100 / size:.3g}' for size in sizes)}." if sizes else ""
        parts.append(f"The speaker's name alone, in random folds: {told}.{chance}")
    return "\n\n".join(parts) + "\n"


def _score(rows: Sequence[Mapping[str, Any]], protocol: str, trained: str, answered: str, normalise: str) -> str:
    wanted = (protocol, trained, answered, normalise)
    for row in rows:
        if (row["protocol"], row["trained"], row["answered"], row["normalise"]) == wanted:
            return f"{100 * row['uar'][0]:.1f} [{100 * row['uar'][1]:.0f}, {100 * row['uar'][2]:.0f}]"
    return "–"


def _points(interval: Sequence[float]) -> str:
    value, low, high = (100 * each for each in interval)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _numbers(interval: Interval) -> list[float]:
    return [round(interval.value, 5), round(interval.low, 5), round(interval.high, 5)]
