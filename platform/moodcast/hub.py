"""Bundles in the Hugging Face form, to a hub and back: config.json, model.safetensors, README.md with a YAML header and a model-index.

    config.json                everything of bundle.json under "moodcast", beside what the hub reads: classes, rate, kind of model
    preprocessor_config.json   the rate and the plan that cuts chunks
    model.safetensors          the weights, byte for byte; those of a checkpoint in one file
    encoder/*.json             and other texts that travel with a bundle, where it has some
    README.md                  the model card

The same folder can be a local one (anything that begins with ".", "/" or "~", or is there), so all of this works without a network.
What was pulled is opened, which checks its SHA-256 and its probe, before it appears under its name; nothing of it is ever executed. A token
is taken from the environment (HF_TOKEN) or from where `hf auth login` put it, never from an argument.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moodcast import bundle as bundles
from moodcast import weights
from moodcast.bundle import Bundle
from moodcast.carried import read_files, write_files
from moodcast.run import run_to_dict

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when the hub's client is imported, which happens below, and late
CONFIG, MODEL, PREPROCESSOR, CARD = "config.json", "model.safetensors", "preprocessor_config.json", "README.md"
KEY = "moodcast"  # of config.json, under which bundle.json lies
TYPED = ("method", "augment", "start_from")  # parts of a run where people type paths
FOLDERS = ("folder", "start_from")  # fields that are nothing else
LICENSES = ("other", "apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "odbl")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def push(
    source: str | Path,
    target: str,
    *,
    private: bool = True,
    license_name: str = "other",
    trust: tuple[str, ...] = (),
    endpoint: str | None = None,
) -> str:
    """Put a bundle on a hub ("owner/name", which is made if it is not there) or into a local folder; where it is now.

    endpoint: another hub than huggingface.co; the environment's HF_ENDPOINT by default. Raises ValueError for what is no bundle, a name
    that is none, or a hub that refuses, with its reason.
    """
    if not is_local(target) and not HUB_NAME.fullmatch(target):
        raise ValueError(f"{target!r} is neither a hub's owner/name nor a local folder; write ./name for a folder here")
    with tempfile.TemporaryDirectory(prefix="moodcast-push-") as place:
        folder = Path(place) / "bundle"  # a temporary folder is its owner's alone, and would stay so where it is moved
        made = export(source, folder, license_name=license_name, trust=trust, name=target.rpartition("/")[2])
        if is_local(target):
            return str(_into_place(made, Path(os.path.expanduser(target)), known=CONFIG))
        from huggingface_hub import HfApi

        with _explained(target):
            api = HfApi(endpoint=endpoint)
            api.create_repo(target, private=private, exist_ok=True)
            api.upload_folder(repo_id=target, folder_path=made, commit_message=f"moodcast bundle {_sha256(made)[:12]}")
        return f"{api.endpoint}/{target}"


def pull(
    source: str,
    into: str | Path,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    trust: tuple[str, ...] = (),
    endpoint: str | None = None,
) -> Path:
    """A bundle from a hub or a local folder in the Hugging Face form, as a bundle in the folder `into`, opened and checked first.

    revision: a branch, tag or commit. sha256: the bundle's, or its beginning (at least 8 digits), if you know which one it must be.
    Raises ValueError where it is no moodcast bundle, was edited on its way, is another than the one wanted, or `into` is taken.
    """
    into = Path(into)
    if into.exists() and not (into / bundles.SETTINGS).is_file():
        raise ValueError(f"{into} is there and is no bundle; choose another folder")
    sha256 = sha256 if sha256 is None else sha256.lower()
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{8,64}", sha256):
        raise ValueError(f"sha256 {sha256!r}: wanted at least 8 of its hexadecimal digits")
    if is_local(source):
        return _unpacked(Path(os.path.expanduser(source)), into, sha256, trust, source)
    if not HUB_NAME.fullmatch(source):
        raise ValueError(f"{source!r} is neither a hub's owner/name nor a local folder")
    from huggingface_hub import snapshot_download

    wanted = [CONFIG, MODEL, CARD, "*/*.json", "*/*.txt"]
    with tempfile.TemporaryDirectory(prefix="moodcast-pull-") as folder:
        with _explained(source):
            snapshot_download(source, revision=revision, local_dir=folder, allow_patterns=wanted, endpoint=endpoint)
        return _unpacked(Path(folder), into, sha256, trust, source)


def export(
    source: str | Path, folder: str | Path, *, license_name: str = "other", trust: tuple[str, ...] = (), name: str | None = None
) -> Path:
    """Write a bundle in the Hugging Face form into `folder`; of paths that were typed on this machine only the names go along.

    Its SHA-256 is another where there were such paths. Raises ValueError for what is no bundle, no known licence, or a file in the place
    of the folder.
    """
    _refuse_file(Path(folder))
    if license_name not in LICENSES:
        raise ValueError(f"the hub knows no licence {license_name!r} for weights of ours; wanted one of {', '.join(LICENSES)}")
    opened = bundles.load(source, trust)
    home, out = bundles.folder_of(source), Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    settings = json.loads((home / bundles.SETTINGS).read_text(encoding="utf-8"))
    text = (home / bundles.CARD).read_text(encoding="utf-8") if (home / bundles.CARD).is_file() else f"# {opened.name}\n"
    run, typed = without_paths(settings["run"])
    texts = {key: _of_names(value, key) for key, value in bundles.carried(home).items()}
    changed = {**settings, "run": run, "files": write_files(out, texts)}
    weights.put_together(home, out / MODEL)
    if changed != settings or weights.names_apart(home):
        changed["sha256"] = bundles.digest(changed, out / MODEL)
    for path, last in sorted(typed.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(path, last)
    _write_json(out / CONFIG, config(opened, changed))
    _write_json(out / PREPROCESSOR, preprocessor(opened))
    (out / CARD).write_text(card(opened, text, name or opened.name, license_name), encoding="utf-8")
    return out


def config(bundle: Bundle, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json holds."""
    classes = bundle.classes
    return {
        "model_type": "moodcast",
        "architectures": [run_to_dict(bundle.run)["method"]["class"].rpartition(":")[2]],
        "num_labels": len(classes),
        "id2label": {str(k): label for k, label in enumerate(classes)},
        "label2id": {label: k for k, label in enumerate(classes)},
        "sampling_rate": bundle.rate,
        KEY: settings,
    }


def preprocessor(bundle: Bundle) -> dict[str, Any]:
    """What preprocessor_config.json holds."""
    return {"feature_extractor_type": "moodcast", "sampling_rate": bundle.rate, "chunks": run_to_dict(bundle.run)["chunks"]}


def card(bundle: Bundle, text: str, name: str, license_name: str = "other") -> str:
    """A model card: a YAML header with a model-index of the stored scores, then `text` without a header of its own."""
    from huggingface_hub import ModelCardData

    reports = [told for told in bundle.scores.values() if isinstance(told, Mapping) and "slices" in told]  # of a test split, of folds
    results = _results(reports[0]) if reports else []
    languages = _languages(reports[0]) if reports else []
    data = ModelCardData(
        license=license_name,
        language=languages or None,
        library_name="moodcast",
        pipeline_tag="audio-classification",
        tags=["speech-emotion-recognition", *(f"corpus:{corpus}" for corpus in bundle.provenance.corpora)],
        metrics=["recall", "accuracy", "f1"] if results else None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{_without_header(text)}"


def without_paths(run: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings of a run with names in place of paths, and those paths with their names.

    Looked at are the method's settings, augmentation and start_from; a hub's owner/name is no path.
    """
    typed: dict[str, str] = {}

    def public(value: Any, field: str) -> Any:
        if isinstance(value, Mapping):
            return {key: public(inner, key) for key, inner in value.items()}
        if isinstance(value, list):
            return [public(inner, field) for inner in value]
        if not isinstance(value, str) or not (field in FOLDERS or is_path(value)) or last_name(value) == value:
            return value
        typed[value] = last_name(value)
        return typed[value]

    return {key: public(value, key) if key in TYPED else value for key, value in run.items()}, typed


def is_path(text: str) -> bool:
    """Whether a setting is a path on some machine and neither a word nor a hub's owner/name."""
    plain = text.replace("\\", "/")
    return plain.startswith((".", "/", "~")) or plain.count("/") > 1 or bool(re.match(r"[A-Za-z]:/", plain)) or Path(text).is_dir()


def last_name(path: str) -> str:
    """The last part of a path, whichever system it is of.

    >>> last_name("/data/ann/noise/"), last_name("C:\\\\Users\\\\ann\\\\whisper"), last_name("default")
    ('noise', 'whisper', 'default')
    """
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _of_names(text: str, name: str) -> str:
    """A text of an encoder without the path that its library wrote down when it was saved."""
    if not name.endswith(".json"):
        return text
    data = json.loads(text)
    path = data.get("_name_or_path") if isinstance(data, dict) else None
    if not isinstance(path, str) or not is_path(path):
        return text
    return json.dumps({**data, "_name_or_path": last_name(path)}, indent=2, ensure_ascii=False) + "\n"


def is_local(place: str) -> bool:
    """Whether a place is a folder here and not a name on a hub."""
    return place.startswith((".", "/", "~")) or Path(place).is_dir() or os.path.isabs(place)


def _results(test: Mapping[str, Any]) -> list[Any]:
    """Each corpus that was scored, as the hub's leaderboards read it; UAR is macro-averaged recall."""
    from huggingface_hub import EvalResult

    slices = [part for part in test["slices"] if part.get("kind", "corpus") == "corpus" and part["slice"] != "all"] or test["slices"][:1]
    found = []
    for part in slices:
        for metric, kind, words in (("uar", "recall", "UAR"), ("accuracy", "accuracy", "accuracy"), ("macro_f1", "f1", "macro-F1")):
            low, high = 100 * part[metric]["low"], 100 * part[metric]["high"]
            found.append(
                EvalResult(
                    task_type="audio-classification",
                    task_name="Speech Emotion Recognition",
                    dataset_type=part["slice"],
                    dataset_name=f"{part['slice']}, {part['num_speakers']} held-out speakers",
                    dataset_split=test.get("split", "test"),
                    metric_type=kind,
                    metric_name=f"{words} %, 95 % speaker interval {low:.1f} to {high:.1f}",
                    metric_value=round(100 * part[metric]["value"], 2),
                )
            )
    return found


def _languages(test: Mapping[str, Any]) -> list[str]:
    return sorted(part["slice"] for part in test["slices"] if part.get("kind") == "language" and re.fullmatch(r"[a-z]{2,3}", part["slice"]))


def _without_header(text: str) -> str:
    return re.sub(r"\A---\n.*?\n---\n+", "", text, flags=re.DOTALL)


def _unpacked(source: Path, into: Path, sha256: str | None, trust: tuple[str, ...], name: str) -> Path:
    """A folder in the Hugging Face form, which people know by `name`, as a bundle, which takes its place only when it could be opened."""
    if not (source / CONFIG).is_file() or not (source / MODEL).is_file():
        raise ValueError(f"{name} is no moodcast bundle in the Hugging Face form: wanted {CONFIG} and {MODEL}")
    if (source / CONFIG).stat().st_size > bundles.MAX_SETTINGS_BYTES:
        raise ValueError(f"{CONFIG} of {name} is larger than the {bundles.MAX_SETTINGS_BYTES} bytes that settings may have")
    try:
        settings = json.loads((source / CONFIG).read_text(encoding="utf-8")).get(KEY)
    except (UnicodeDecodeError, json.JSONDecodeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{CONFIG} of {name} is not a JSON object: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{CONFIG} of {name} has no {KEY!r}: this model was not pushed by moodcast")
    if sha256 is not None and not str(settings.get("sha256", "")).startswith(sha256):
        raise ValueError(f"wanted the bundle {sha256}, found {settings.get('sha256')}; nothing was kept")
    with tempfile.TemporaryDirectory(prefix="moodcast-pull-") as place:
        folder = Path(place) / into.absolute().name
        folder.mkdir()
        _write_json(folder / bundles.SETTINGS, settings)
        shutil.copyfile(source / MODEL, folder / weights.WEIGHTS)
        if (source / CARD).is_file():
            shutil.copyfile(source / CARD, folder / bundles.CARD)
        write_files(folder, read_files(source, settings.get("files", {})))
        try:
            bundles.load(folder, trust)
        except ValueError as error:
            raise ValueError(str(error).replace(str(folder), name)) from error
        return _into_place(folder, into, known=bundles.SETTINGS)


def _into_place(made: Path, target: Path, known: str) -> Path:
    """Move a finished folder to its place; one that holds an older of the same kind, and nothing else, is replaced, another is refused."""
    target = target.absolute()
    _refuse_file(target)
    if target.exists() and any(target.iterdir()):
        if not (target / known).is_file():
            raise ValueError(f"{target} is there and holds no {known}; choose another folder")
        if others := _others(target, known):
            raise ValueError(f"{target} also holds {', '.join(others[:3])}, which would be lost; choose another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.parent / f".{target.name}.{os.getpid()}"
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(made, half)
    shutil.rmtree(target, ignore_errors=True)
    half.rename(target)
    return target


def _refuse_file(target: Path) -> None:
    if target.is_file():
        raise ValueError(f"{target} is a file; wanted a folder, which is made if it is not there: choose another name")


def _others(target: Path, known: str) -> list[str]:
    """The files in a folder that are no part of the bundle there, by path; its `known` settings too where they are not a bundle's."""
    try:
        settings = json.loads((target / known).read_text(encoding="utf-8"))
        texts = set((settings[KEY] if known == CONFIG else settings).get("files", {}))
    except (ValueError, TypeError, KeyError, AttributeError):
        return [known]
    parts = {CONFIG, PREPROCESSOR, MODEL, CARD} if known == CONFIG else {bundles.SETTINGS, weights.WEIGHTS, bundles.CARD}
    held = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir() or path.is_symlink()}
    return sorted(held - parts - texts)


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _sha256(made: Path) -> str:
    return str(json.loads((made / CONFIG).read_text(encoding="utf-8"))[KEY]["sha256"])


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """What a hub or the network refuses, as a ValueError of one line that says where a token belongs."""
    try:
        yield
    except Exception as error:  # the client library below the hub's own changes its name from release to release
        if type(error).__module__.partition(".")[0] not in ("huggingface_hub", "httpx", "httpx2", "requests"):
            raise
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"the hub did not give or take {name}: {reason}. A token, where one is needed, goes into HF_TOKEN") from error
