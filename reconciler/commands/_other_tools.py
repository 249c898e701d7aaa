"""The commands of Terraform, kubectl and Argo CD, and what replaces them here; imported for an unknown command only.

docs/coming-from.md has the most used ones; a test runs each of them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

from reconciler.domain.identity import NAME_PATTERN

_APPLY_MANIFEST: Final = "change the manifest, and run `reconcile apply`"
_DESTROY: Final = (
    "`reconcile destroy` deletes all generations of the selected models after you type the name of the target;"
    " read `reconcile help destroy` first"
)
_ROLLBACK: Final = (
    "`reconcile rollback` rejects the serving generation and promotes the one before it; read `reconcile help rollback`"
    " first"
)
_CANCEL: Final = "`reconcile cancel` stops trainings in progress; read `reconcile help cancel` first"
_LEASE: Final = "the lock of a run that was killed is released by itself; run `reconcile plan`"
_TARGETS: Final = "run `reconcile targets`, and pass `--target NAME` to a command"
_CREDENTIALS: Final = "run `reconcile doctor`, which checks the credentials"
_SUSPEND: Final = "set spec.lifecycle.suspend in the manifest, and run `reconcile apply`"
_RESUME: Final = "remove spec.lifecycle.suspend from the manifest, and run `reconcile apply`"
_RETRAIN: Final = "run `reconcile apply --replace NAME`, which shows the plan and asks before it trains"

_TERRAFORM: Final[Mapping[str, str]] = {
    "console": "run `reconcile prompt NAME`",
    "fmt": "manifests have no canonical format; run `reconcile validate`",
    "force-unlock": _LEASE,
    "import": "run `reconcile adopt NAME REMOTE`",
    "login": _CREDENTIALS,
    "logout": _CREDENTIALS,
    "metadata": "run `reconcile schema`",
    "output": "run `reconcile resolve NAME`",
    "providers": "run `reconcile doctor`",
    "show": "run `reconcile status`, or `reconcile render plan.json` for a saved plan",
    "state": "run `reconcile list`",
    "state list": "run `reconcile list`",
    "state mv": "set metadata.name to NEW and metadata.formerly to [OLD] in the manifest, and run `reconcile apply`",
    "state pull": "run `reconcile list -o json`; the lockfile beside the target is the state",
    "state push": "run `reconcile refresh`, which merges lockfiles and verifies them with the service",
    "state rm": (
        "`reconcile forget` stops managing a model, which no command deletes then; read `reconcile help forget` first"
    ),
    "state show": "run `reconcile history NAME`",
    "taint": _RETRAIN,
    "test": "run `reconcile check`",
    "untaint": "no model is marked for another training; run `reconcile plan`",
    "workspace": _TARGETS,
    "workspace list": _TARGETS,
    "workspace new": _TARGETS,
    "workspace select": _TARGETS,
    "workspace show": _TARGETS,
}
_KUBECTL: Final[Mapping[str, str]] = {
    "annotate": _APPLY_MANIFEST,
    "api-resources": "run `reconcile schema`",
    "api-versions": "run `reconcile schema`",
    "auth": _CREDENTIALS,
    "cluster-info": "run `reconcile doctor`",
    "config": _TARGETS,
    "cp": "run `reconcile export NAME`",
    "create": "run `reconcile add NAME --from FILE`, and `reconcile apply`",
    "delete": _DESTROY,
    "describe": "run `reconcile history NAME`",
    "edit": _APPLY_MANIFEST,
    "events": "run `reconcile apply --events FILE`",
    "exec": "run `reconcile prompt NAME`",
    "expose": "run `reconcile resolve NAME`",
    "label": "change metadata.labels in the manifest, and run `reconcile apply`",
    "logs": "run `reconcile status --live`",
    "patch": _APPLY_MANIFEST,
    "port-forward": "run `reconcile prompt NAME`",
    "proxy": "run `reconcile prompt NAME`",
    "replace": _APPLY_MANIFEST,
    "rollout": "run `reconcile status`",
    "rollout history": "run `reconcile history NAME`",
    "rollout pause": _SUSPEND,
    "rollout restart": _RETRAIN,
    "rollout resume": _RESUME,
    "rollout status": "run `reconcile wait`",
    "rollout undo": _ROLLBACK,
    "run": "run `reconcile prompt NAME`",
    "scale": _APPLY_MANIFEST,
    "set": _APPLY_MANIFEST,
    "top": "run `reconcile status --live`",
}
_ARGO_CD: Final[Mapping[str, str]] = {
    "account": _CREDENTIALS,
    "app": "run `reconcile list`",
    "app create": "run `reconcile add NAME --from FILE`, and `reconcile apply`",
    "app delete": _DESTROY,
    "app diff": "run `reconcile diff`",
    "app edit": _APPLY_MANIFEST,
    "app get": "run `reconcile list NAME -o wide`",
    "app history": "run `reconcile history NAME`",
    "app list": "run `reconcile list`",
    "app logs": "run `reconcile status --live`",
    "app manifests": "run `reconcile list NAME -o yaml`",
    "app patch": _APPLY_MANIFEST,
    "app resources": "run `reconcile list NAME -o wide`",
    "app rollback": _ROLLBACK,
    "app set": _APPLY_MANIFEST,
    "app sync": "run `reconcile apply`",
    "app terminate-op": _CANCEL,
    "app unset": _APPLY_MANIFEST,
    "app wait": "run `reconcile wait`",
    "appset": _TARGETS,
    "cluster": _TARGETS,
    "proj": _TARGETS,
    "repo": "run `reconcile doctor`",
}
_PLAIN: Final[Mapping[str, str]] = {
    "deploy": "run `reconcile apply`",
    "lint": "run `reconcile validate`",
    "ls": "run `reconcile list`",
    "pause": _SUSPEND,
    "remove": _DESTROY,
    "resume": _RESUME,
    "retry": "run `reconcile apply --retry NAME`, which shows the plan and asks before it trains",
    "rm": _DESTROY,
    "suspend": _SUSPEND,
    "sync": "run `reconcile apply`",
    "train": "run `reconcile apply`",
    "undo": _ROLLBACK,
    "unlock": _LEASE,
    "watch": "run `reconcile status --watch`",
}
"""Words that people type without a tool in mind; several of them resemble a command with another effect."""
_REMOTE: Final = r"[A-Za-z0-9][A-Za-z0-9./@_-]*"
_APPROVE: Final = "see {approval} in `reconcile help {command}`"
_FORMAT: Final = "pass --format json, or run `reconcile list -o {value}`"
_PATH: Final = "pass the path without {name}, as in `reconcile {command} {value}`"
_BUILD: Final = "pass its output, as in `kubectl kustomize {value} | reconcile {command} - --root {value}`"
_WATCH: Final = "run `reconcile status --watch`"
_OTHER_TARGETS: Final = "run `reconcile targets`"
_THIS_TARGET: Final = "pass --target NAME"
_OPTIONS: Final[Mapping[str, str]] = {
    "-A": _OTHER_TARGETS,
    "-C": "pass -C DIR before the command, as in `reconcile -C DIR plan`",
    "-R": _PATH,
    "-auto-approve": _APPROVE,
    "-chdir": "pass -C {value} before the command",
    "-destroy": "`reconcile destroy` shows its plan first; read `reconcile help destroy`",
    "-detailed-exitcode": "pass --detailed-exitcode",
    "-f": _PATH,
    "-json": "pass --format json",
    "-k": _BUILD,
    "-n": _THIS_TARGET,
    "-no-color": "pass --color never",
    "-o": _FORMAT,
    "-out": "pass --out {value}",
    "-refresh-only": "run `reconcile drift`",
    "-replace": "pass --replace {value}",
    "-target": "pass --only NAME",
    "-var": "set spec.variables of the target",
    "-var-file": "set spec.variables of each target, and pass --target NAME",
    "-w": _WATCH,
    "-y": _APPROVE,
    "--all-namespaces": _OTHER_TARGETS,
    "--auto-approve": _APPROVE,
    "--context": _THIS_TARGET,
    "--exit-code": "pass --detailed-exitcode",
    "--filename": _PATH,
    "--kustomize": _BUILD,
    "--namespace": _THIS_TARGET,
    "--output": _FORMAT,
    "--recursive": _PATH,
    "--selector": "pass -l",
    "--watch": _WATCH,
    "--yes": _APPROVE,
}
"""The remedies by option; Terraform's begin with one hyphen."""


def remedy_for(arguments: Sequence[str], known: Collection[str], unsuggested: Collection[str]) -> tuple[str, str]:
    """Return the unknown command that the arguments begin with, and what to do.

    A similar known command is suggested, unless the most similar one is ``unsuggested``.
    """
    words = [argument for argument in arguments if not argument.startswith("-")]
    for count in (2, 1):
        command = " ".join(words[:count])
        for remedies in (_TERRAFORM, _KUBECTL, _ARGO_CD, _PLAIN):
            if command in remedies:
                return command, _with_words(remedies[command], words[count:])
    similar = get_close_matches(arguments[0], known, n=1)
    if similar and similar[0] not in unsuggested:
        return arguments[0], f"did you mean {similar[0]}?"
    return arguments[0], "run reconcile --help"


def _with_words(remedy: str, words: Sequence[str]) -> str:
    """Return the remedy for the model and the second name in the words, if they have them."""
    if "--target" in remedy:
        return remedy
    for placeholders, pattern, word in zip(("NAME|OLD", "REMOTE|NEW"), (NAME_PATTERN, _REMOTE), words, strict=False):
        if not re.fullmatch(pattern, word):
            break
        remedy = re.sub(rf"\b({placeholders})\b", word, remedy)
    return remedy


def option_remedy(arguments: Sequence[str], option: str) -> tuple[str, str]:
    """Return the option of another tool that the arguments have, and what to pass in its place; else empty texts.

    ``option`` is its name as click reports it: one letter of an option that has one hyphen and several letters.
    """
    for position, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        letters = set(name[1:]) if not name.startswith("--") else ()
        if name in _OPTIONS and (name == option or option.removeprefix("-") in letters):
            value = value or next(iter(arguments[position + 1 :]), "PATH")
            approval = "--confirm" if arguments[0] == "destroy" else "--yes"
            known = {"command": arguments[0], "name": name, "value": shlex.quote(value), "approval": approval}
            return name, _OPTIONS[name].format(**known)
    return "", ""
