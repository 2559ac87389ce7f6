"""The bundle that ships with moodcast: four emotions in three languages, every class of every corpus drawn equally often.

Everybody is trained on: how good the recipe is, benchmarks/default_bundle.py tells over speaker folds, and
benchmarks/ship_default_bundle.py makes the bundle that ships, of several seeds, with the folds' scores and calibration.

    python -m jobs.default_bundle cremad.parquet emodb.parquet resd.parquet --name default
    python benchmarks/ship_default_bundle.py runs/default/bundle --answers ANSWERS
"""

from __future__ import annotations

from moodcast.augment import Augment, Crop
from moodcast.chunks import ChunkPlan
from moodcast.cluster.job import main
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.methods.committee import Committee, FisherMember
from moodcast.run import Run, Train

DATA = ("cremad", "emodb", "resd")
NOTES = """
Limits: acted speech in English, German and Russian, recorded in rooms with little noise; the labels say what an actor was asked to play
(CREMA-D, EMO-DB, RESD), not what anyone felt. Other languages, spontaneous speech, children and sick voices are outside of what was
tested. The resd split is by dialogue; its actors recur in other dialogues under other names, so its score is not one for new speakers.
Do not use it to decide about people.
Inside is, for each training stretch, one vector of 192 numbers that sums up its sound, with which recordings are compared.
Corpora: CREMA-D (ODbL), EMO-DB (CC0), RESD (MIT).
"""
RUN = Run(
    method=Committee.Config(networks=1, fisher=FisherMember(gaussians=32)),
    labels=Labels(("angry", "happy", "neutral", "sad")),
    chunks=ChunkPlan(length_s=3.0, hop_s=3.0),
    augment=Augment(crop=Crop(share=1.0, seconds=3.0)),
    train=Train(epochs=36, batch_size=64, lr=2e-3, weight_decay=1e-2, balance="corpus_class", keep="last", precision="bfloat16"),
)


def held_out(row: Utterance) -> bool:
    """Nobody."""
    return False


if __name__ == "__main__":
    main(RUN, DATA, NOTES, held_out)
