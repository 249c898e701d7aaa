"""The pull-request flow as it is written into repositories, taken apart."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reconciler.manifests.yaml_parser import parse

Json = dict[str, Any]


def read(file: Path) -> Json:
    """A file of YAML 1.2 with one document."""
    (document,) = parse(file.read_bytes(), file.name).documents
    value: Json = document.value
    return value


def steps(workflow: Json) -> Iterator[Json]:
    """The steps of all jobs of a workflow of GitHub."""
    for job in workflow["jobs"].values():
        yield from job["steps"]


def scripts(file: Path) -> list[str]:
    """What a shell is given to run by a workflow of GitHub or a pipeline of GitLab."""
    document = read(file)
    if "jobs" in document:
        return [step["run"] for step in steps(document) if "run" in step]
    jobs = [job for job in document.values() if isinstance(job, dict)]
    return [
        "\n".join([*job.get("before_script", ()), *job.get("script", ())])
        for job in jobs
        if "script" in job or "before_script" in job
    ]


def commands(script: str) -> Iterator[list[str]]:
    """The calls of reconcile in a script, without what the shell does around them."""
    joined = re.sub(r"\\\n\s*", "", script)
    for found in re.finditer(r"\breconcile (?=[a-z]+ )([^|&;)\n]*)", joined):
        text = found[1].split(" > ")[0].split(" 2> ")[0].rstrip("'\"` ") if found[1].count("'") % 2 else found[1]
        yield [word for word in shlex.split(text.split(" > ")[0]) if word != "2>"]
