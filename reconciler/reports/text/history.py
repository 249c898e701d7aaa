"""Draw a History document: the generations of one manifest and what changed between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import convert

from reconciler.domain.model import REMOTE_SCHEME
from reconciler.reports.documents.envelope import Document, display_path
from reconciler.reports.documents.plan import DataSample
from reconciler.reports.text.format import (
    Detail,
    Layout,
    Role,
    counted,
    minute,
    share,
    signed_head,
    steps_and_loss,
    value,
)
from reconciler.reports.text.plan import change_counts, sample_text, target_line
from reconciler.reports.text.status import origin_of

_SIGNS: Final[Mapping[str, tuple[str, Role | None]]] = {
    "serving": (">", "promote"),
    "rejected": ("x", "error"),
    "held": ("!", "hold"),
    "": (" ", None),
}
_UNAVAILABLE: Final[Mapping[tuple[str, ...], str]] = {
    ("before",): "the earlier data set is not available",
    ("after",): "this data set is not available",
    ("before", "after"): "neither data set is available",
}


def history_text(document: Document, layout: Layout) -> str:
    """Return a History document: the generations, newest first; a verbose layout includes changed examples."""
    lines = [target_line(document, layout), *layout.sentences(None, history_summary(document))]
    for generation in document["generations"]:
        sign, role = _SIGNS[generation.get("role", "")]
        lines += layout.lines(signed_head(sign, generation["key"]), generation_state(generation), role)
        lines += layout.details(generation_details(generation, verbose=layout.verbose))
    return "\n".join([*lines, *layout.sentences("muted", *origin_of(document))])


def history_summary(document: Document) -> str:
    """Return the number of generations of a History document in one line."""
    if not document["generations"]:
        return f"No generation of {document['name']} is recorded; run reconcile apply first."
    manifest = display_path(document["manifest"], document["target"].get("root", ""))
    return f"{document['name']} ({manifest}): {counted(len(document['generations']), 'generation')}, newest first"


def generation_state(generation: Document) -> str:
    """Return the state of a generation of a History document in a few words."""
    standing = generation.get("role", "")
    if standing == "serving":
        since = f" since {minute(generation['promoteTime'])}" if "promoteTime" in generation else ""
        return f"{generation['state']}, serving{since}"
    reason = {"rejected": generation.get("rejection", ""), "held": "checks failed"}.get(standing, "")
    return ": ".join(filter(None, [", ".join(filter(None, [generation["state"], standing])), reason]))


def generation_details(generation: Document, *, verbose: bool = False) -> Iterator[Detail]:
    """Yield label and text of each detail of a generation of a History document."""
    yield generation["origin"], _origin(generation)
    trained = steps_and_loss(generation.get("totalSteps"), generation.get("finalLoss"))
    if trained:
        yield "training", trained
    if "error" in generation:
        yield "error", generation["error"]["message"] or "the service reports no reason"
    if "checks" in generation:
        yield from _checks(generation["checks"])
    if "changes" in generation:
        yield from _label("changed", _changes(generation["changes"], verbose=verbose))
    else:
        yield from _label("inputs", _inputs(generation))


def _label(label: str, texts: Iterable[str]) -> Iterator[Detail]:
    for text in texts:
        yield label, text
        label = ""


def _origin(generation: Document) -> str:
    created = minute(generation["createTime"]) if "createTime" in generation else "at an unknown time"
    attempt = f", attempt {generation['attempt']}" if generation["attempt"] else ""
    if "promoteTime" not in generation or generation.get("role") == "serving":
        return f"{created}{attempt}"
    return f"{created}, last promoted {minute(generation['promoteTime'])}{attempt}"


def _checks(checks: Document) -> Iterator[Detail]:
    scores = "".join(f"; {name} {share(score)}" for name, score in checks.get("scores", {}).items())
    yield "checks", f"{checks['passed']} of {checks['passed'] + checks['failed']} passed{scores}"
    for miss in checks.get("failures", ()):
        yield "", f"{miss['check']}: {value(miss['prompt'])} → {value(miss['answer'])}"


def _inputs(generation: Document) -> Iterator[str]:
    yield _source(generation["source"])
    dataset = generation["dataset"]
    examples = f", {counted(dataset['examples'], 'example')}" if "examples" in dataset else ""
    yield f"data set {dataset.get('path', 'inline')}{examples}"
    numbers = [f"{name} {value(number)}" for name, number in sorted(generation.get("hyperparameters", {}).items())]
    if numbers:
        yield ", ".join(numbers)


def _source(source: Document) -> str:
    if "baseModel" in source:
        return f"base model {source['baseModel']}"
    return f"tuned model {source.get('generation') or source.get('remote', '')}"


def _changes(changes: Document, *, verbose: bool) -> Iterator[str]:
    if "source" in changes:
        yield f"{_source(changes['source']['before'])} → {_source(changes['source']['after'])}"
    for change in changes.get("hyperparameters", ()):
        yield f"{change['name']} {value(change.get('before'))} → {value(change.get('after'))}"
    if "preamble" in changes:
        before, after = changes["preamble"]["before"], changes["preamble"]["after"]
        yield f"preamble {value(before or None)} → {value(after or None)}"
    if "dataset" in changes:
        yield _data_change(changes["dataset"], reordered="preamble" not in changes)
        if verbose:
            yield from _samples(changes["dataset"].get("examples", {}).get("samples", {}))
    if changes.keys() == {"since"}:
        yield "only the attempt: the same inputs were trained again"


def _data_change(data: Document, *, reordered: bool) -> str:
    before, after = data["before"], data["after"]
    name = " → ".join(dict.fromkeys(dataset.get("path", "inline") for dataset in (before, after)))
    found = data.get("examples")
    if found and not (found["added"] or found["removed"] or found["changed"]):
        count = counted(after["examples"], "example") if "examples" in after else "examples"
        return f"data set {name}: the same {count}{' in a different order' if reordered else ''}"
    return f"data set {name}: {_example_count(before, after)}; {_compared(data)}"


def _example_count(before: Document, after: Document) -> str:
    if "examples" not in before or "examples" not in after:
        return "changed"
    old, new = before["examples"], after["examples"]
    return counted(new, "example") if old == new else f"{old} → {counted(new, 'example')}"


def _compared(data: Document) -> str:
    if "examples" in data:
        return change_counts(*(data["examples"][change] for change in ("added", "removed", "changed")))
    if any(data[side].get("path", "").startswith(REMOTE_SCHEME) for side in ("before", "after")):
        return "data in Cloud Storage is not compared"
    return f"examples not compared: {_UNAVAILABLE[tuple(data['missing'])]}"


def _samples(samples: Document) -> Iterator[str]:
    for change in ("added", "removed", "changed"):
        for example in samples.get(change, ()):
            yield f"  {' '.join(sample_text(convert({**example, 'change': change}, DataSample)))}"
