"""The command that tells what became of a manifest over time. It reads files and git, and asks no service."""

from __future__ import annotations

from reconciler.app.commands import Answer
from reconciler.app.environment import Environment
from reconciler.app.project import Input, open_project
from reconciler.app.recorded import unknown_name
from reconciler.core.discretion import discreet_entry
from reconciler.core.history import history_of
from reconciler.core.lock import LockedModel
from reconciler.files.git_history import Recorded, examples_at_hand
from reconciler.render.history import History, history_document


def history(env: Environment, what: Input, name: str) -> Answer:
    """Every recorded generation of a manifest, and what changed from each to the next.

    Raises:
        ReconcileError: when neither a manifest nor the lockfile knows that name.
    """
    project = open_project(env, what, strict=False)
    declared = next((one.file for one in project.manifests if one.name == name), None)
    model = project.lock.models.get(name) or (LockedModel(declared) if declared else None)
    if model is None:
        raise unknown_name(project, name, f"{name} has no history")
    files = tuple(dict.fromkeys(file for file in (declared, model.manifest) if file))
    recorded = Recorded(project.workspace.root, name, files, model.generations)
    with examples_at_hand(recorded, env.environ) as examples:
        entries = history_of(model, examples)
        shown = entries if project.target.show_examples else tuple(map(discreet_entry, entries))
        told = History(name, declared or model.manifest, shown)
    return Answer(history_document(told, project.target, project.capabilities, project.lockfile, root=project.root))
