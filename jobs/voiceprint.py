"""Speaker embeddings for the embedded diarizer, from the speakers of emotion corpora.

Speakers are classes here, so the dev split, which chooses the epoch, holds other utterances of the training speakers; the test split
holds speakers never heard, and its score is the equal error rate of telling two of them apart.

    python -m jobs.voiceprint cremad.parquet emodb.parquet resd.parquet --into platform/moodcast/bundles/voiceprint
"""

from __future__ import annotations

from moodcast.chunks import ChunkPlan
from moodcast.cluster.job import main
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.methods.voiceprint import Voiceprint
from moodcast.nn.corrupt import Damage
from moodcast.run import Run, Train

DATA = ("cremad", "emodb", "resd")
NOTES = """
Limits: acted speech in English, German and Russian, recorded in rooms with little noise. The actors of resd recur under several roles
without a published identity: as training classes they are noisy labels, and its test pairs are taken within one dialogue only.
Corpora: CREMA-D (ODbL), EMO-DB (CC0), RESD (MIT).
"""
RUN = Run(
    method=Voiceprint.Config(
        normalise="level",  # a conversation has one channel: its mean spectrum is voice, and helps
        margin=0.15,
        hide_bands=6,
        hide_s=0.15,
        damage=Damage(noise_share=0.5, echo_share=0.3, band_share=0.5),  # rooms and telephones are what conversations come through
    ),
    labels=Labels(("speakers", "of the manifest"), source="speaker"),  # the job fills in who they are
    chunks=ChunkPlan(length_s=2.0, hop_s=2.0),
    train=Train(epochs=12, batch_size=64, lr=2e-3, weight_decay=5e-2, balance="none"),
)


def held_out(row: Utterance) -> bool:
    """Speakers kept from training: what benchmarks/diarization.py tunes on and reports on is made of them."""
    return (row.corpus == "cremad" and str(row.speaker) >= "1081") or (row.corpus == "resd" and str(row.group) >= "dlg31")


if __name__ == "__main__":
    main(RUN, DATA, NOTES, held_out)
