"""What a target changes in the manifests of its root: which ones it selects, its overrides and its variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import Place, Problem, Severity
from reconciler.domain.text import format_number, shorten, suggest
from reconciler.manifests.provider_fields import mapping
from reconciler.manifests.schema_validation import Finding, has_problem, is_valid, schema_of
from reconciler.manifests.yaml_parser import FieldPath, Positions, Scalar, YamlDocument, dotted

if TYPE_CHECKING:
    from reconciler.domain.labels import LabelRequirement

SELECTOR: Final = "selector"
OVERRIDES: Final = "overrides"
VARIABLES: Final = "variables"
OVERLAY_FIELDS: Final = (SELECTOR, OVERRIDES, VARIABLES)
"""The fields of a target's spec that decide what its manifests declare; the environment never changes them."""
_SPEC: Final = "spec"
_CHECKS: Final = ("spec", "checks")
_EXAMPLES: Final = ("spec", "dataset", "examples")
_MERGE_KEY: Final = "name"
"""The key of the one list that is merged by its elements: ``spec.checks``."""
_DIRECTIVE: Final = "$patch"
_DIRECTIVES: Final = ("replace", "delete", "merge")
_REFERENCE: Final = re.compile(r"\$(\$)?\{([A-Z][A-Z0-9_]{0,62})\}")
MAX_EXPANSION: Final = 2**20
"""The most characters that the variables of one manifest expand to."""
_SUGGESTED: Final = 10
"""How many unknown names of a selector are compared with all known names, which takes long for many."""
_METADATA: Final = ("name", "labels", "formerly")


class ManifestSelector(Struct, frozen=True):
    """Names and labels that select manifests: both must match; an empty selector matches every manifest."""

    names: tuple[str, ...] = ()
    labels: tuple[LabelRequirement, ...] = ()

    @classmethod
    def read(cls, declared: Mapping[str, Any]) -> ManifestSelector:
        """Return a valid selector of a target file."""
        if not declared:
            return cls()
        from reconciler.domain.labels import LabelRequirement

        equal = [LabelRequirement(name, "In", (value,)) for name, value in declared.get("matchLabels", {}).items()]
        expressions = [
            LabelRequirement(condition["key"], condition["operator"], tuple(condition.get("values", ())))
            for condition in declared.get("matchExpressions", ())
        ]
        return cls(tuple(declared.get("names", ())), (*equal, *expressions))

    def matches(self, document: YamlDocument) -> bool:
        """Whether a manifest is selected; it may violate its schema."""
        metadata = mapping(document.value.get("metadata"))
        labels = mapping(metadata.get("labels"))
        name = metadata.get("name")
        named = not self.names or (isinstance(name, str) and name in self.names)
        return named and all(requirement.matches(labels) for requirement in self.labels)


class Override(Struct, frozen=True):
    """A patch of the manifests that a selector matches; ``path`` is that of the override in the target file."""

    path: FieldPath
    selector: ManifestSelector
    patch: YamlDocument


class Overlay(Struct, frozen=True):
    """The selector, the overrides and the variables of a target; ``document`` is its file, ``None`` without one.

    ``valid`` is whether these fields have no errors: then manifests can be evaluated. ``used`` collects the variables
    and the overrides that manifests need, and ``names`` all names that were matched.
    """

    document: YamlDocument | None = None
    valid: bool = True
    selector: ManifestSelector = ManifestSelector()
    overrides: tuple[Override, ...] = ()
    variables: Mapping[str, Scalar] = {}
    used: set[str | int] = set()
    names: set[str] = set()

    @property
    def file(self) -> str:
        """The target file as messages show it."""
        return self.document.file if self.document else "a target file"

    def selects(self, document: YamlDocument) -> bool:
        """Whether the target selects a manifest."""
        name = mapping(document.value.get("metadata")).get("name")
        if isinstance(name, str):
            self.names.add(name)
        return self.selector.matches(document)

    def evaluates(self, document: YamlDocument) -> bool:
        """Whether a manifest can be read: without valid variables, one that refers to them cannot."""
        return self.valid or not _refers(document.value)

    def selects_none(self) -> Problem:
        """Return the warning that the target selects no manifest that was read."""
        remedy = "change it, or pass the directory that has the manifests"
        return self._problem((_SPEC, SELECTOR), "no manifest matches", remedy, "warning")

    def effective(self, document: YamlDocument) -> tuple[YamlDocument, list[Problem]]:
        """Return a manifest as this target has it, and the errors in patching it and in its variables."""
        problems: list[Problem] = []
        if not isinstance(document.value.get(_SPEC), dict):
            return document, problems
        for index, override in enumerate(self.overrides):
            if override.selector.matches(document):
                self.used.add(index)
                document = _Patch(override.patch, problems).apply(document)
        return _Expansion(self, document, problems).apply(), problems

    def unused(self) -> Iterator[Problem]:
        """Yield the problems with names that no manifest has, and warnings about what no manifest uses.

        Every manifest of the root must have been read.
        """
        yield from self._unknown_names(self.selector, (_SPEC, SELECTOR))
        for index, override in enumerate(self.overrides):
            unknown = list(self._unknown_names(override.selector, (*override.path, SELECTOR)))
            yield from unknown
            if index not in self.used and not unknown:
                remedy = "remove it, or change its selector"
                yield self._problem(override.path, "no selected manifest matches this override", remedy, "warning")
        for name in self.variables:
            if name not in self.used:
                remedy = f"remove it, or use ${{{name}}} in a manifest"
                yield self._problem(
                    (_SPEC, VARIABLES, name), "no selected manifest uses this variable", remedy, "warning"
                )

    def _unknown_names(self, selector: ManifestSelector, path: FieldPath) -> Iterator[Problem]:
        known = sorted(self.names)
        unknown = ((index, name) for index, name in enumerate(selector.names) if name not in self.names)
        for number, (index, name) in enumerate(unknown):
            remedy = suggest(name, known if number < _SUGGESTED else (), otherwise="remove it")
            yield self._problem((*path, "names", index), f'no manifest is named "{shorten(name)}"', remedy)

    def _problem(self, path: FieldPath, message: str, remedy: str, severity: Severity = "error") -> Problem:
        place = self.document.place(path) if self.document else Place(self.file)
        return Problem(place, dotted(path), message, remedy, severity)

    def definition(self, name: str) -> Positions:
        """Return the position of the value of a variable, in the target file."""
        path = (_SPEC, VARIABLES, name)
        mark = self.document.child(path).positions.mark if self.document else None
        return Positions(mark, file=self.file)  # type: ignore[arg-type] # a variable has a document


def read_overlay(document: YamlDocument, problems: Iterable[Problem]) -> Overlay:
    """Return what a target changes in manifests; it is not valid if these fields have some of the ``problems``."""
    found = tuple(problems)
    spec = mapping(mapping(document.value).get(_SPEC))
    if any(has_problem(dotted((_SPEC, field)), found) for field in OVERLAY_FIELDS):
        return Overlay(document, valid=False)
    overrides = (
        Override((_SPEC, OVERRIDES, index), ManifestSelector.read(declared.get(SELECTOR, {})), patch)
        for index, declared in enumerate(spec.get(OVERRIDES, ()))
        for patch in [document.child((_SPEC, OVERRIDES, index, _SPEC))]
    )
    return Overlay(
        document,
        selector=ManifestSelector.read(spec.get(SELECTOR, {})),
        overrides=tuple(overrides),
        variables=spec.get(VARIABLES, {}),
    )


def overlay_problems(document: YamlDocument) -> Iterator[Problem]:
    """Yield the errors in the selector, overrides and variables of a target that its schema explains worse, or not."""
    for path, message, remedy in _findings(mapping(mapping(document.value).get(_SPEC))):
        yield Problem(document.place(path, key=True), dotted(path), message, remedy)


def has_valid_overlay(document: YamlDocument) -> bool:
    """Return whether the selector, overrides and variables of a target file have no errors."""
    schema = schema_of("Target")
    fields = schema["properties"]["spec"]["properties"]
    part = {"properties": {field: fields[field] for field in OVERLAY_FIELDS}, "$defs": schema["$defs"]}
    return is_valid(part, mapping(document.value).get(_SPEC)) and not any(overlay_problems(document))


def _findings(spec: Mapping[str, Any]) -> Iterator[Finding]:
    yield from _selector_findings(spec.get(SELECTOR), (_SPEC, SELECTOR))
    for name, value in mapping(spec.get(VARIABLES)).items():
        if isinstance(value, str) and "${" in value:
            yield (_SPEC, VARIABLES, name), "a variable cannot refer to other variables", "write the value out"
    overrides = spec.get(OVERRIDES)
    for index, override in enumerate(overrides if isinstance(overrides, list) else ()):
        path = (_SPEC, OVERRIDES, index)
        for field in ("apiVersion", "kind", "metadata"):
            if field in mapping(override):
                yield (*path, field), f"{field} cannot be overridden", "remove it; an override patches spec only"
        yield from _selector_findings(mapping(override).get(SELECTOR), (*path, SELECTOR))
        yield from _directive_findings(mapping(override).get(_SPEC), (*path, _SPEC))


def _selector_findings(selector: Any, path: FieldPath) -> Iterator[Finding]:
    expressions = mapping(selector).get("matchExpressions")
    for index, expression in enumerate(expressions if isinstance(expressions, list) else ()):
        operator, values = mapping(expression).get("operator"), mapping(expression).get("values")
        here = (*path, "matchExpressions", index)
        if operator in ("In", "NotIn") and not values:
            yield (*here, "values"), f"missing field that operator {operator} requires", "add the values"
        elif operator in ("Exists", "DoesNotExist") and values:
            yield (*here, "values"), f"not supported by operator {operator}", "remove it"


def _directive_findings(value: Any, path: FieldPath) -> Iterator[Finding]:
    if isinstance(value, list):
        for index, part in enumerate(value):
            yield from _directive_findings(part, (*path, index))
        return
    for name, part in mapping(value).items():
        here = (*path, name)
        if not name.startswith("$"):
            yield from _directive_findings(part, here)
        elif name != _DIRECTIVE:
            yield here, f"unsupported directive {shorten(name)}", f"use {_DIRECTIVE}, or write the whole value"
        elif part not in _DIRECTIVES:
            yield here, f"invalid directive {shorten(str(part))}", f"set one of {', '.join(_DIRECTIVES)}"


def changed_fields(document: YamlDocument) -> tuple[tuple[str, Place], ...]:
    """Return the path of each field of an effective manifest that the target sets or removes, in order of its place."""
    found: list[tuple[str, Place]] = []
    pending: list[tuple[FieldPath, Positions]] = [((), document.positions)]
    while pending:
        path, positions = pending.pop()
        if positions.file and positions.file != document.file:
            found.append((dotted(path), document.place(path, key=True)))
        else:
            pending += [((*path, step), child) for step, child in positions.children.items()]
    return tuple(sorted(found, key=lambda field: field[1]))


class _Node(Struct, frozen=True):
    """A value and the positions in it."""

    value: Any
    positions: Positions

    def child(self, step: str | int, file: str = "") -> _Node:
        """Return a part; its positions have the ``file`` that those of this node are in."""
        positions = self.positions.children[step]
        return _Node(self.value[step], replace(positions, file=positions.file or file))


class _Patch(Struct, frozen=True):
    """A strategic merge patch: mappings are merged, ``null`` removes a field, checks are merged by name.

    Every other list is replaced. The values of a manifest are shared with others, and never changed.
    """

    patch: YamlDocument
    problems: list[Problem]

    def apply(self, document: YamlDocument) -> YamlDocument:
        whole = _Node(document.value, document.positions)
        merged = self._merged(whole.child(_SPEC), _Node(self.patch.value, self.patch.positions), (_SPEC,))
        if merged is None:  # with a directive that deletes the spec
            merged = _Node({}, self.patch.positions)
        value, children = dict(document.value), dict(document.positions.children)
        value[_SPEC], children[_SPEC] = merged.value, merged.positions
        return replace(document, value=value, positions=replace(document.positions, children=children))

    def _merged(self, base: _Node | None, patch: _Node, path: FieldPath) -> _Node | None:
        """Return the merged value; ``None`` if the patch removes it."""
        if isinstance(patch.value, dict):
            directive = patch.value.get(_DIRECTIVE)
            if directive == "delete":
                return None
            known = base if base and isinstance(base.value, dict) and directive != "replace" else None
            return self._merged_mapping(known, patch, path)
        if isinstance(patch.value, list) and tuple(path) == _CHECKS:
            return self._merged_checks(base if base and isinstance(base.value, list) else None, patch, path)
        return None if patch.value is None else self._located(patch)

    def _located(self, patch: _Node) -> _Node:
        return _Node(patch.value, replace(patch.positions, file=self.patch.file))

    def _merged_mapping(self, base: _Node | None, patch: _Node, path: FieldPath) -> _Node:
        value: dict[str, Any] = dict(base.value) if base else {}
        positions = base.positions if base else self._located(patch).positions
        children: dict[Any, Positions] = dict(base.positions.children) if base else {}
        for name in patch.value:
            if name == _DIRECTIVE:
                continue
            before = base.child(name, base.positions.file) if base and name in base.value else None
            merged = self._merged(before, patch.child(name), (*path, name))
            if merged is None:
                value.pop(name, None)
                # The place of a required field that is missing now is where it was removed.
                children[name] = replace(patch.positions.children[name], file=self.patch.file, children={})
            else:
                value[name], children[name] = merged.value, merged.positions
        return _Node(value, replace(positions, children=children))

    def _merged_checks(self, base: _Node | None, patch: _Node, path: FieldPath) -> _Node:
        parts: dict[Any, _Node] = {}
        known = [base.child(index, base.positions.file) for index in range(len(base.value))] if base else []
        for index, part in enumerate(known):
            name = _check_name(part)
            parts[index if name is None or name in parts else name] = part  # of several with one name the first
        patches = [patch.child(index) for index in range(len(patch.value))]
        if any(part.value == {_DIRECTIVE: "replace"} for part in patches):
            parts, patches = {}, [part for part in patches if part.value != {_DIRECTIVE: "replace"}]
        for part in patches:
            name = _check_name(part)
            merged = self._merged(parts.get(name), part, (*path, 0))
            if merged:
                parts[(len(parts), "unnamed") if name is None else name] = merged
            elif parts.pop(name, None) is None:
                message = f'no check is named "{shorten(name)}"' if name else "missing name of a check"
                place = YamlDocument(self.patch.file, None, part.positions).place(())
                remedy = "name a check of the manifest, or remove it"
                self.problems.append(Problem(place, dotted(path), message, remedy))
        positions = replace(
            base.positions if base else self._located(patch).positions,
            children={index: part.positions for index, part in enumerate(parts.values())},
        )
        return _Node([part.value for part in parts.values()], positions)


def _check_name(part: _Node) -> str | None:
    name = mapping(part.value).get(_MERGE_KEY)
    return name if isinstance(name, str) else None


def _refers(value: Any) -> bool:
    """Return whether a text in a value can have a variable."""
    if isinstance(value, dict):
        return any(map(_refers, value.values()))
    return any(map(_refers, value)) if isinstance(value, list) else isinstance(value, str) and "${" in value


class _Expansion(Struct):
    """Replaces ``${NAME}`` in the texts below ``spec``, except in examples, which are data; ``$${`` is ``${``."""

    overlay: Overlay
    document: YamlDocument
    problems: list[Problem]
    left: int = MAX_EXPANSION

    def apply(self) -> YamlDocument:
        for field in _METADATA:
            self._refuse(mapping(self.document.value.get("metadata")).get(field), ("metadata", field))
        if not _refers(self.document.value[_SPEC]):
            return self.document
        whole = _Node(self.document.value, self.document.positions)
        expanded = self._node(whole.child(_SPEC), (_SPEC,))
        value, children = dict(whole.value), dict(whole.positions.children)
        value[_SPEC], children[_SPEC] = expanded.value, expanded.positions
        return replace(self.document, value=value, positions=replace(whole.positions, children=children))

    def _refuse(self, value: Any, path: FieldPath) -> None:
        if isinstance(value, dict | list):
            for step, part in value.items() if isinstance(value, dict) else enumerate(value):
                self._refuse(part, (*path, step))
        elif isinstance(value, str) and (found := _REFERENCE.search(value)):
            self._report(path, f"unsupported variable {found[0]}: variables are replaced in spec only")

    def _node(self, node: _Node, path: FieldPath) -> _Node:
        """Return a value with its variables replaced; the node itself if it has none."""
        if isinstance(node.value, str):
            return self._text(node, path)
        if not isinstance(node.value, dict | list) or tuple(path) == _EXAMPLES:
            return node
        steps = list(node.value) if isinstance(node.value, dict) else list(range(len(node.value)))
        parts = {step: self._node(node.child(step), (*path, step)) for step in steps}
        if all(part.value is node.value[step] for step, part in parts.items()):
            return node
        children = {**node.positions.children, **{step: part.positions for step, part in parts.items()}}
        values = {step: part.value for step, part in parts.items()}
        value = values if isinstance(node.value, dict) else list(values.values())
        return _Node(value, replace(node.positions, children=children))

    def _text(self, node: _Node, path: FieldPath) -> _Node:
        text: str = node.value
        if "${" not in text:
            return node
        names = [found[2] for found in _REFERENCE.finditer(text) if not found[1]]
        unknown = [name for name in dict.fromkeys(names) if name not in self.overlay.variables]
        for name in unknown:
            remedy = f"define it in spec.variables of {self.overlay.file}, or write $${{{name}}} for the text itself"
            self._report(path, f"undefined variable ${{{name}}}", remedy)
        self.overlay.used.update(names)
        if unknown:
            return node
        if len(names) == 1 and text == f"${{{names[0]}}}":
            return _Node(self.overlay.variables[names[0]], self.overlay.definition(names[0]))
        return replace(node, value=self._expanded(text, path))

    def _expanded(self, text: str, path: FieldPath) -> str:
        size = sum(len(self._value(found)) for found in _REFERENCE.finditer(text))
        if size > self.left:
            if self.left >= 0:
                message = f"the variables of this manifest expand to more than {MAX_EXPANSION:,} characters"
                self._report(path, message, "use fewer variables, or shorten their values")
            self.left = -1
            return text
        self.left -= size
        return _REFERENCE.sub(self._value, text)

    def _value(self, found: re.Match[str]) -> str:
        if found[1]:
            return found[0][1:]
        value = self.overlay.variables[found[2]]
        if isinstance(value, bool):
            return "true" if value else "false"
        return format_number(value) if isinstance(value, int | float) else str(value)

    def _report(self, path: FieldPath, message: str, remedy: str = "write the value out") -> None:
        self.problems.append(Problem(self.document.place(path), dotted(path), message, remedy))
