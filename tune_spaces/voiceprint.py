"""Ranges for jobs/voiceprint: margin, widths, and how much the sound is damaged.

Speakers are what it learns, so there are no speaker folds and a sweep of moodcast refuses it; benchmarks/diarization.py judges voiceprints.
"""

from __future__ import annotations

from ray import tune

SPACE = {
    "train.lr": tune.loguniform(5e-4, 5e-3),
    "train.weight_decay": tune.loguniform(1e-4, 1e-1),
    "method.width": tune.choice([96, 160, 256]),
    "method.embedding": tune.choice([64, 128, 256]),
    "method.margin": tune.uniform(0.0, 0.4),
    "method.scale": tune.loguniform(10.0, 60.0),
    "method.dropout": tune.uniform(0.0, 0.3),
    "method.damage.noise_share": tune.uniform(0.0, 0.8),
    "method.damage.echo_share": tune.uniform(0.0, 0.8),
    "method.damage.band_share": tune.uniform(0.0, 0.8),
}
