#!/usr/bin/env bash
# Builds the wheel from this tree, looks into it, installs it into an empty environment and uses it from another folder.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
python=$root/.venv/bin/python
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$python" -m build --wheel --no-isolation --outdir "$folder" . >"$folder/build.log" || { cat "$folder/build.log"; exit 1; }
wheel=$(ls "$folder"/*.whl)
echo "built $(basename "$wheel"), $(du -k "$wheel" | cut -f1) KiB"

# Every file of the sources that git knows is in the wheel, and nothing but them and the metadata.
"$python" - "$wheel" <<'CHECK'
import subprocess
import sys
import zipfile

names = {name for name in zipfile.ZipFile(sys.argv[1]).namelist() if ".dist-info/" not in name}
folders = ["platform/moodcast", "jobs", "serve_apps", "tune_spaces"]
tracked = subprocess.run(["git", "ls-files", "-z", *folders], check=True, capture_output=True, text=True).stdout.split("\0")
wanted = {name.removeprefix("platform/") for name in tracked if name}
missing = sorted(wanted - names)
strange = sorted(name for name in names if name.split("/")[0] not in ("moodcast", "jobs", "serve_apps", "tune_spaces"))
for need in ("moodcast/cli/__init__.py", "moodcast/py.typed", "moodcast/bundles/default/bundle.json"):
    missing += [need] if need not in names else []
if missing or strange:
    sys.exit(f"the wheel lacks {missing or 'nothing'} and holds, beside what belongs there, {strange or 'nothing'}")
print(f"{len(names)} files, nothing missing")
CHECK

"$python" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet --constraint constraints.txt "$wheel"
mkdir "$folder/elsewhere"
cd "$folder/elsewhere"
PATH=$folder/venv/bin:$PATH
export PATH

python - <<'SOUND'
import math
import struct
import wave

with wave.open("voice.wav", "wb") as out:
    out.setnchannels(1)
    out.setsampwidth(2)
    out.setframerate(16000)
    swell = (0.2 * (1 + math.sin(2 * math.pi * 3 * n / 16000)) for n in range(32000))
    out.writeframes(b"".join(struct.pack("<h", int(32767 * level * math.sin(2 * math.pi * 140 * n / 16000))) for n, level in enumerate(swell)))
SOUND

moodcast --version
moodcast --help >/dev/null
moodcast predict voice.wav
moodcast predict --json voice.wav | python -c 'import json, sys; print(json.load(sys.stdin)["emotion"])'
moodcast analyze voice.wav --out out >/dev/null
test -s out/voice.json && test -s out/voice.html

# The core has no Ray; what needs it says so in one line.
if moodcast serve 2>said.txt; then
    echo "moodcast serve worked without Ray?" >&2
    exit 1
fi
grep -q "moodcast\[ray\]" said.txt || { cat said.txt; exit 1; }
echo "the wheel works"
