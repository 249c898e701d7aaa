"""A worker without a training library: it answers with the number of prompts of the request, and their model."""

from __future__ import annotations

import json
import sys


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        texts = [prompt["text"] for prompt in request["prompts"]]
        if "die" in texts:
            sys.exit("out of memory")
        response: dict[str, object] = {
            "replies": [[{"text": f"{len(texts)} prompts for {request['adapter']}", "finish": ""}] for _ in texts]
        }
        if "refuse" in texts:
            response = {"error": {"message": "base: no such file", "remedy": "name a GGUF file"}}
        sys.stdout.write(json.dumps(response) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
