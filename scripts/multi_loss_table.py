"""Writes the tables of docs/multi_loss.md from what a sweep and the ablations left in results/.

`python scripts/multi_loss_table.py` writes; `--check` only says whether they are up to date (exit code 1 if not); `--take DIR/report.json`
first keeps the short form of a sweep's report in results/.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import multi_loss as card
from moodcast import lines, sweep_page
from moodcast.whole import write_whole
from scripts.pages import ROOT, filled, settle

PAGE = ROOT / "docs" / "multi_loss.md"
SWEEP, ROWS = ROOT / "results" / "multi_loss_sweep.json", ROOT / "results" / "multi_loss.jsonl"
KEPT = ("sweep", "folder", "winner", "classes", "test", "optimism", "rival", "common_epoch", "importance", "notes", "run")
NAMES = {"winner": "the winner", "published": "published settings", "rival": "winner of the rival sweep"}


def short(found: Mapping[str, Any]) -> dict[str, Any]:
    """A sweep's report without curves: of each trial what it changed, how it ended, and its last score."""
    of_trial = ("number", "origin", "state", "value", "spread", "seconds", "changes")
    trials = [{**{name: trial[name] for name in of_trial}, "epochs": len(trial["epochs"])} for trial in found["trials"]]
    return {**{name: found[name] for name in KEPT}, "trials": trials}


def sweep_tables(found: Mapping[str, Any]) -> Iterator[str]:
    """The answer of a sweep: unseen speakers, optimism, what it says in words, importance, the winner."""
    sweep, test = found["sweep"], found["test"]
    how = ", ".join(f"{count} {state}" for state, count in Counter(trial["state"] for trial in found["trials"]).most_common())
    hours = sum(trial["seconds"] for trial in found["trials"]) / 3600
    yield (
        f"{sweep['trials']} trials ({how}; {hours:.1f} h of epochs), searched on {sweep['rows']} utterances of {sweep['speakers']} "
        f"speakers in {sweep['folds']} inner speaker folds, {len(found['classes'])} classes, {sweep['epochs']} epochs. Answered once: "
        f"{test['utterances']} utterances of {test['speakers']} speakers that nobody chose by, {len(test['seeds'])} fresh seeds. UAR in %, "
        "95 % by bootstrap over those speakers, differences paired by speaker."
    )
    minus = {row["minus"]: sweep_page.signed(row["uar"]) for row in test["differences"]}
    yield from ("", "| recipe | UAR | by seed | the winner minus it |", "|---|---|---|---|")
    for arm in test["arms"]:
        seeds = ", ".join(f"{100 * seed:.1f}" for seed in arm["seeds"])
        yield f"| {NAMES[arm['name']]} ({arm['what']}) | {sweep_page.score(arm['uar'])} | {seeds} | {minus.get(arm['name'], '-')} |"
    for beside in test["baselines"]:
        yield f"| {beside['name']} | {sweep_page.score(beside['uar'])} | | {sweep_page.signed(beside['above'])} |"
    yield from ("", "| | inside the search | on unseen speakers | gap |", "|---|---|---|---|")
    for row in found["optimism"]:
        inner, outer = sweep_page.score(row["inner"]), sweep_page.score(row["test"])
        yield f"| {NAMES[row['arm']]} | {inner} | {outer} | {sweep_page.signed(row['gap'])} |"
    yield ""
    yield from (f"- {line}" for line in sweep_page.verdict(found))
    if found["rival"] is None:
        yield "- The rival sweep (mixup fixed to none) is not reported yet."
    shares = [f"{sweep_page.field_name(r['name'])} {100 * r['share']:.0f} ± {100 * r['spread']:.0f} %" for r in found["importance"][:6]]
    yield ""
    yield f"Share of the variance of scores after epoch {found['common_epoch']} (fANOVA, five forests; from so few trials a hint):"
    yield f"{', '.join(shares) or 'too few trials to say'}."
    yield from by_kind(found)
    winner = next(trial for trial in found["trials"] if trial["number"] == found["winner"])
    yield ""
    changed = (f"{sweep_page.field_name(name)} {sweep_page.words(value)}" for name, value in winner["changes"].items())
    yield f"The winner: {', '.join(changed)}."


def by_kind(found: Mapping[str, Any]) -> Iterator[str]:
    """How many trials had which mixup, and the best inner score of those that went to the end: where the search went."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for trial in found["trials"]:
        kinds.setdefault(str(trial["changes"].get("method.mix.kind")), []).append(trial)
    told = []
    for kind, trials in sorted(kinds.items(), key=lambda item: -len(item[1])):
        whole = [trial["value"] for trial in trials if trial["state"] == "finished"]
        told.append(f"{kind} {len(trials)} ({f'best {100 * max(whole):.1f}' if whole else 'all stopped'})")
    yield ""
    yield f"Trials by mixup, with the best inner UAR of those that went to the end: {', '.join(told)}."


def ablation_tables(rows: list[dict[str, Any]], corpora: Sequence[str] = tuple(card.CARDS)) -> Iterator[str]:
    """Of each corpus the comparisons whose arms have whole seeds; of the others how far they are."""
    without = [corpus for corpus in corpora if not any(r["corpus"] == corpus for r in rows)]
    for corpus in (corpus for corpus in corpora if corpus not in without):
        wanted = card.CARDS[corpus]
        for title, full, arms, others in card.COMPARISONS:
            made = {(r["arm"], r["seed"], r["fold"]) for r in rows if r["corpus"] == corpus and r["arm"] in arms}
            total = len(arms) * len(wanted.asked) * len(wanted.seeds)
            known = card.known_of(corpus, rows, arms, wanted.asked)
            if known is None:
                yield f"{corpus}, {title}: {len(made)} of {total} runs made, no seed whole yet."
            else:
                yield from card.table(known, title, full, arms, others)
                if len(known.seeds) < len(wanted.seeds):
                    yield ""
                    yield f"Not complete: {len(known.seeds)} of {len(wanted.seeds)} seeds."
            yield ""
    if without:
        yield f"Not run yet: {', '.join(without)}."


def wanted() -> str:
    """What the page should hold."""
    sweep = "\n".join(sweep_tables(json.loads(SWEEP.read_text(encoding="utf-8")))) if SWEEP.is_file() else "Not measured yet."
    ablations = "\n".join(ablation_tables(lines.read(ROWS))).strip()
    return filled(PAGE, "multi_loss_table", {"sweep": sweep, "ablations": ablations})


def main(words: Sequence[str]) -> int:
    """Keep a report, write the page, or only compare."""
    if "--take" in words:
        taken = json.loads(Path(words[list(words).index("--take") + 1]).read_text(encoding="utf-8"))
        write_whole(SWEEP, json.dumps(short(taken), indent=1) + "\n")
        print(f"written: {SWEEP.relative_to(ROOT)}")
    return settle({PAGE: wanted()}, "multi_loss_table", words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
