"""The real recordings, where they are: the defects that docs/log.md lists are found, in small samples, and gone once they are prepared."""

from __future__ import annotations

from pathlib import Path

import pytest

from moodcast import corpora as corpus_modules
from moodcast.audit import audit
from moodcast.audit.table import giveaways

pytestmark = pytest.mark.corpora

PAIRS = {
    "cremad": [
        ("identical, different labels", ("cremad/1006_TIE_HAP_XX", "cremad/1006_TIE_NEU_XX")),
        ("near-identical, different labels", ("cremad/1017_IWL_ANG_XX", "cremad/1017_IWL_FEA_XX")),
        ("near-identical, one label", ("cremad/1056_MTI_ANG_XX", "cremad/1056_TAI_ANG_XX")),
        ("silent", ("cremad/1076_MTI_SAD_XX",)),
    ],
    "resd": [
        ("near-identical, one label", ("resd/31_fear_enthusiasm_f_060", "resd/31_fear_enthusiasm_f_070")),
        ("shared stretch, different labels", ("resd/11_anger_disgust_a_150", "resd/11_anger_disgust_d_150")),
        ("too short", ("resd/17_neutral_disgust_n_010",)),
    ],
    "ravdess": [("identical, one label", ("ravdess/03-01-03-01-02-01-07", "ravdess/03-01-03-01-02-02-07"))],
    "urdu": [("near-identical, two speakers", ("urdu/SF1_F4_H04", "urdu/SF4_F3_H019"))],
}


@pytest.mark.parametrize("name", PAIRS)
def test_known_defects_of_the_real_corpora_are_found_and_then_gone(name: str, corpora: Path) -> None:
    everything = corpus_modules.read(name, corpora / name)
    speakers = {row.speaker for row in everything if any(row.id in ids for _, ids in PAIRS[name])}
    planted = {one for _, ids in PAIRS[name] for one in ids}
    own = [row for row in everything if row.speaker in speakers]
    sample = [row for n, row in enumerate(own) if row.id in planted or n % 8 == 0]
    found = {(item.kind, tuple(sorted(item.ids))) for item in audit(sample).findings}
    assert found >= {(kind, tuple(sorted(ids))) for kind, ids in PAIRS[name]}
    left = audit(corpus_modules.clean(name, sample)[0])
    assert left.ok, left.findings


def test_the_speaker_gives_the_label_away_in_urdu_and_the_role_in_resd(corpora: Path) -> None:
    scores = {
        name: next(item for item in giveaways(corpus_modules.read(name, corpora / name)) if item.name == "speaker")
        for name in ("urdu", "resd", "emodb")
    }
    assert scores["urdu"].uar == pytest.approx(0.955, abs=0.01)
    assert scores["resd"].uar == 1.0
    assert scores["emodb"].uar < scores["emodb"].chance + 0.02
