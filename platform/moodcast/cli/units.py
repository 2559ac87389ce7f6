"""The verb `units`: discrete speech units of corpora, and which vowels of which languages are the same sounds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodcast.cli.words import console, progress, say

if TYPE_CHECKING:
    from moodcast.study.frames import Framer
    from moodcast.study.units import Floats


def units(
    manifests: Annotated[list[Path], typer.Argument(metavar="MANIFEST", help="Manifests of corpora, best of several languages.")],
    bundle: Annotated[str | None, typer.Option("--bundle", "-b", metavar="FOLDER", help="Frames of the encoder in this bundle.")] = None,
    encoder: Annotated[
        str | None, typer.Option(metavar="FOLDER|ID", help="Frames of a Hugging Face encoder; without it or a bundle, of log-mel.")
    ] = None,
    layer: Annotated[int, typer.Option(help="Which layer of the encoder; 0 is the lowest, -1 the last.")] = -1,
    number: Annotated[int, typer.Option("--number", "-k", min=2, help="How many units.")] = 100,
    emotions: Annotated[str, typer.Option(help="The emotions to compare, by commas.")] = "angry,happy,neutral,sad",
    most: Annotated[int, typer.Option(min=10, help="At most so many utterances of each corpus, evenly over emotions.")] = 600,
    acoustic: Annotated[
        bool, typer.Option("--acoustic", help="Find vowels by ear of the machine even where phones are labelled, the same for all.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other utterances and starts k-means elsewhere.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Cluster on Ray, in so many shares; 0 clusters here.")] = 0,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything here, too.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with plots here, too.")] = None,
) -> None:
    """Cluster frames of speech into units and compare vowels across corpora, languages and emotions, with what chance would give."""
    from contextlib import nullcontext
    from json import dumps

    from moodcast.cli import show
    from moodcast.manifest import read_manifests
    from moodcast.study import hearing, phonetics, units_page

    if bundle is not None and encoder is not None:
        raise ValueError("--bundle and --encoder both name an encoder; give one of them")
    names = tuple(name.strip() for name in emotions.split(","))
    came = read_manifests(manifests)
    rows = phonetics.few(came, names, most, seed)
    if not rows:
        raise ValueError(f"no utterance has one of the emotions {', '.join(names)}; --emotions names others")
    if lost := sorted({row.corpus for row in came} - {row.corpus for row in rows}):
        say(f"{', '.join(lost)}: left out, no utterance has one of the emotions {', '.join(names)}", "note")
    framer, rate, what = framer_of(bundle, encoder, layer)
    with progress("listening", total=len(rows)) as advance:
        heard = hearing.hear(rows, framer, rate, use_phones=not acoustic, seed=seed, progress=advance)
    where = nullcontext()
    cluster: phonetics.Clusterer | None = None
    if workers:
        import numpy as np

        from moodcast.cluster import kmeans, local

        where = local.cluster()  # type: ignore[assignment]

        def cluster(frames: Floats, centres: Floats) -> tuple[Floats, float]:
            return kmeans.cluster(np.array_split(frames, workers), centres)

    with where, progress("comparing", total=None):
        found = phonetics.examine(heard, names, number, seed, cluster)
    found["frames"] = what
    written = [] if html is None else [show.save(html, units_page.render(found))]
    if json is not None:
        written.append(show.save(json, dumps(found, indent=1, ensure_ascii=False) + "\n"))
    for said in units_page.verdicts(found):
        console().print(said, markup=False)
    show.written(written)


def framer_of(bundle: str | None, encoder: str | None, layer: int) -> tuple[Framer, int, str]:
    """What makes frames, the rate that it hears in Hz, and what it is in words."""
    from moodcast.study import frames

    if bundle is not None:
        import moodcast

        opened = moodcast.load(bundle)
        return frames.of_bundle(opened, layer), opened.rate, f"layer {layer} of the bundle {opened.name}"
    if encoder is not None:
        return frames.of_encoder(encoder, layer), frames.RATE, f"layer {layer} of {Path(encoder).name if '/' not in encoder else encoder}"
    if layer != -1:
        raise ValueError(f"--layer {layer} is of an encoder; give --encoder or --bundle")
    return frames.cepstrum(), frames.RATE, "log-mel cepstra"
