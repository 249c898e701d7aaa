"""Fails unless the lockfile in a folder names an ACTIVE serving generation for each manifest there.

Reads the files on its own, without the package under test.
"""

import json
import sys
from pathlib import Path

import yaml

folder = Path(sys.argv[1])
models = json.loads((folder / "reconcile.lock.json").read_text(encoding="utf-8"))["models"]
documents = [
    document for file in sorted(folder.rglob("*.yaml")) for document in yaml.safe_load_all(file.read_text("utf-8"))
]
names = [document["metadata"]["name"] for document in documents if document["kind"] == "TunedModel"]
if not names:
    sys.exit(f"{folder} holds no manifest")
for name in names:
    model = models[name]
    states = {one["key"]: one["state"] for one in model["generations"]}
    if states.get(model.get("serving")) != "ACTIVE":
        sys.exit(f"{name} has no ACTIVE serving generation: {model.get('serving')} of {states}")
print(f"{len(names)} of {len(names)} manifests are served by an ACTIVE generation")
