"""Shows how AUTO chooses for labelled prompts, and how often it is right on those that the rules were not tuned on.

python scripts/routes.py            all prompts of tests/data/routes.toml with choice and reason
python scripts/routes.py PROMPT…    prompts of your own
"""

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from atelier_server.backends.base import ModelSpec
from atelier_server.errors import Unavailable
from atelier_server.executor.base import Executor
from atelier_server.executor.openai import OpenAIExecutor
from atelier_server.executor.subprocess import SubprocessExecutor
from atelier_server.pipeline.prompt import load_templates
from atelier_server.pipeline.route import choose_model
from atelier_server.pipeline.rules import LOCAL, OPENAI
from atelier_server.types import GenerateRequest

PROMPTS = Path(__file__).parent.parent / "tests" / "data" / "routes.toml"
RULES = load_templates().routing
MODELS = {LOCAL: "sdxl", OPENAI: "openai_images"}


class Ready:
    """A registry whose models are ready, without any of them being loaded."""

    def __init__(self, *instances: Executor) -> None:
        self._instances = {instance.spec.name: instance for instance in instances}

    def get(self, name: str, version: str = "") -> Executor:
        """See Models."""
        if name not in self._instances:
            raise Unavailable(f"model {name} is down: the service fails")
        return self._instances[name]

    def ready(self, role: str) -> Sequence[Executor]:
        """See Models."""
        return list(self._instances.values())


def main() -> None:
    """Prints everything."""
    local = SubprocessExecutor(ModelSpec(MODELS[LOCAL], "1", Path(), config={"backend": "sdxl"}), "sdxl")
    remote = OpenAIExecutor(ModelSpec(MODELS[OPENAI], "1", Path(), config={"backend": "openai"}), {})
    both, only_local = Ready(local, remote), Ready(local)
    if len(sys.argv) > 1:
        for prompt in sys.argv[1:]:
            show(prompt, both)
        return
    parts = tomllib.loads(PROMPTS.read_text(encoding="utf-8"))
    right = {}
    for part, entries in parts.items():
        print(f"\n== {part} ==")
        right[part] = sum(show(entry["prompt"], both, MODELS[entry["want"]]) for entry in entries)
    print("\n== with OpenAI down ==")
    for entry in parts["kept_out"][2:6]:
        show(entry["prompt"], only_local)
    print()
    for part, entries in parts.items():
        print(f"{part}: {right[part]} of {len(entries)} right ({right[part] / len(entries):.0%})")


def show(prompt: str, models: Ready, want: str = "") -> bool:
    """Prints the choice for a prompt; returns whether it is the wanted one."""
    choice = choose_model(GenerateRequest(prompt), models, RULES)
    name = choice.instance.spec.name
    mark = " " if name == want or not want else "x"
    print(f"{mark} {name:14} {prompt}\n{'':17}{choice.reason}")
    return name == want


if __name__ == "__main__":
    main()
