"""The commands beside generate, and which command runs what."""

import argparse
import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from atelier_client import _types
from atelier_client._calls import load
from atelier_client._client import Atelier
from atelier_client._retry import Retry
from atelier_client.cli._batch import generate_many
from atelier_client.cli._completion import completion
from atelier_client.cli._generate import generate, notes_on
from atelier_client.cli._interrupt import interruptible
from atelier_client.cli._output import Answer, show, table
from atelier_client.cli._sheet import sheet

_INSTANCE_HEADINGS = (
    "model",
    "version",
    "state",
    "device",
    "dtype",
    "execution",
    "memory",
    "queue",
    "running",
    "restarts",
    "reason",
)


def run(options: argparse.Namespace) -> Answer:
    """Runs a command, against its server where it needs one."""
    if options.command in _LOCAL:
        return _LOCAL[options.command](options)
    many = getattr(options, "source", None) is not None
    token_file = getattr(options, "token_file", None)
    with Atelier(
        getattr(options, "server", "") or os.environ.get("ATELIER_SERVER") or "127.0.0.1:8001",
        tls="tls" in options,
        ca_file=getattr(options, "ca", None),
        cert_file=getattr(options, "cert", None),
        key_file=getattr(options, "key", None),
        token=None if token_file else os.environ.get("ATELIER_TOKEN"),
        token_file=token_file,
        retry=Retry(attempts=1) if many else None,  # a batch has a patience of its own
    ) as atelier:
        if many:
            return generate_many(atelier, options)
        command = options.command if "action" not in options else f"{options.command} {options.action}"
        return interruptible(atelier, partial(_COMMANDS[command], atelier, options))


def _timeout(options: argparse.Namespace) -> dict[str, Any]:
    return {"timeout": options.timeout} if "timeout" in options else {}


def _score(atelier: Atelier, options: argparse.Namespace) -> Answer:
    fields = {"prompt": options.prompt, "brand_id": options.brand_id, **_timeout(options)}
    scores = atelier.score_all(options.images, **fields)
    names = (
        *("aesthetic_score", "sub_scores", "brand_consistency_score", "brand_reference_missing"),
        *("on_brand_probability", "palette_distance", "prompt_alignment", "passed", "missing_reasons"),
    )
    pairs = list(zip(options.images, scores, strict=True))
    images = [{"path": path} | {name: getattr(one, name) for name in names} for path, one in pairs]
    rows = [
        (
            path,
            one.aesthetic_score,
            one.brand_consistency_score,
            one.on_brand_probability,
            one.palette_distance,
            one.prompt_alignment,
            one.passed,
        )
        for path, one in pairs
    ]
    headings = ("picture", "aesthetic", "brand", "on brand", "palette", "alignment", "passed")
    return Answer({"images": images}, "\n".join([table(headings, rows), *notes_on(scores)]))


def _health(atelier: Atelier, options: argparse.Namespace) -> Answer:
    health = atelier.health(**_timeout(options))
    facts = asdict(health)
    plain = {name: value for name, value in facts.items() if name not in {"instances", "models_available", "reasons"}}
    available = ", ".join(name for name, there in facts["models_available"].items() if there)
    text = [_facts(plain | {"models_available": available, "reasons": " ".join(health.reasons)})]
    return Answer(facts, "\n\n".join([*text, _instances(health.instances)]))


def _metrics(atelier: Atelier, options: argparse.Namespace) -> Answer:
    facts = asdict(atelier.metrics(**_timeout(options)))
    by_model = ", ".join(f"{model} {count}" for model, count in sorted(facts["generations_by_model"].items()))
    return Answer(facts, _facts(facts | {"generations_by_model": by_model}))


def _brand_create(atelier: Atelier, options: argparse.Namespace) -> Answer:
    # Read first: a missing file must not leave a brand without pictures behind.
    images = [load(path) for path in options.images]
    brand = atelier.brands.create(options.brand_id, name=options.name, **_timeout(options))
    if images:
        return _added(atelier.brands.add(options.brand_id, images, **_timeout(options)))
    return _added(_types.AddedReferences(brand, (), ()))


def _brand_add(atelier: Atelier, options: argparse.Namespace) -> Answer:
    return _added(atelier.brands.add(options.brand_id, options.images, **_timeout(options)))


def _added(added: _types.AddedReferences) -> Answer:
    counts = f"{len(added.added_reference_ids)} added, {len(added.duplicate_reference_ids)} there already"
    return Answer(asdict(added), f"{_brands((added.brand,))}\n{counts}")


def _brand_show(atelier: Atelier, options: argparse.Namespace) -> Answer:
    brand = atelier.brands.get(options.brand_id, **_timeout(options))
    rows = [(one.reference_id, f"{one.width}x{one.height}", one.size_bytes) for one in brand.references]
    text = [_brands((brand,)), table(("reference", "size", "bytes"), rows), *brand.warnings]
    return Answer({"brand": asdict(brand)}, "\n\n".join(text))


def _brand_list(atelier: Atelier, options: argparse.Namespace) -> Answer:
    brands = atelier.brands.list(**_timeout(options))
    return Answer({"brands": [asdict(brand) for brand in brands]}, _brands(brands))


def _brand_delete(atelier: Atelier, options: argparse.Namespace) -> Answer:
    atelier.brands.delete(options.brand_id, **_timeout(options))
    return Answer({"deleted": options.brand_id}, f"{options.brand_id} is deleted.")


def _models_list(atelier: Atelier, options: argparse.Namespace) -> Answer:
    models = atelier.models.list(**_timeout(options))
    return Answer({"models": [asdict(model) for model in models]}, _models(models))


def _models_load(atelier: Atelier, options: argparse.Namespace) -> Answer:
    model = atelier.models.load(options.name, **_timeout(options))
    return Answer({"model": asdict(model)}, _models((model,)))


def _models_unload(atelier: Atelier, options: argparse.Namespace) -> Answer:
    model = atelier.models.unload(options.name, **_timeout(options))
    return Answer({"model": asdict(model)}, _models((model,)))


def _facts(facts: dict[str, Any]) -> str:
    width = max(map(len, facts))
    return "\n".join(f"{name.ljust(width)}  {show(value)}" for name, value in facts.items())


def _brands(brands: tuple[_types.Brand, ...]) -> str:
    rows = [(one.brand_id, one.name, one.reference_count, " ".join(one.palette)) for one in brands]
    return table(("brand", "name", "references", "palette"), rows)


def _models(models: tuple[_types.ModelInfo, ...]) -> str:
    rows = [(one.name, one.version, one.state, one.backend, one.reason) for one in models]
    return table(("model", "version", "state", "backend", "reason"), rows)


def _instances(instances: tuple[_types.ModelInstance, ...]) -> str:
    rows = [
        (
            *(one.model, one.version, one.state, one.device, one.dtype, one.execution),
            *(f"{one.memory_bytes / 2**20:.0f} MiB", one.queue_depth, one.running, one.restarts, one.reason),
        )
        for one in instances
    ]
    return table(_INSTANCE_HEADINGS, rows)


_COMMANDS: dict[str, Callable[[Atelier, argparse.Namespace], Answer]] = {
    "generate": generate,
    "score": _score,
    "health": _health,
    "metrics": _metrics,
    "brand create": _brand_create,
    "brand add": _brand_add,
    "brand show": _brand_show,
    "brand list": _brand_list,
    "brand delete": _brand_delete,
    "models list": _models_list,
    "models load": _models_load,
    "models unload": _models_unload,
}
# Those that need no server.
_LOCAL: dict[str, Callable[[argparse.Namespace], Answer]] = {"sheet": sheet, "completion": completion}
