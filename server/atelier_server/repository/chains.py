"""What control does to the models around an ensemble: its parts come with it, and may go with it."""

from collections.abc import Iterable, Mapping

from atelier_server.errors import FailedPrecondition
from atelier_server.repository.repository import ModelEntry

Entries = Mapping[str, ModelEntry]


def with_parts(names: Iterable[str], entries: Entries) -> list[str]:
    """The names, and before each ensemble the models that it chains; each once."""
    found: dict[str, None] = {}

    def add(name: str, above: tuple[str, ...]) -> None:
        for part in _parts(name, entries):
            if part not in above:
                add(part, (*above, name))
        found.setdefault(name)

    for name in names:
        add(name, ())
    return list(found)


def in_waves(names: Iterable[str], entries: Entries) -> list[list[str]]:
    """Plain models, then ensembles, so that these find their parts loaded."""
    listed = list(names)
    return [[name for name in listed if bool(_parts(name, entries)) is chains] for chains in (False, True)]


def users_of(name: str, loaded: Entries) -> set[str]:
    """The ensembles among the loaded models that chain the model, directly or through others."""
    direct = {user for user, entry in loaded.items() if name in entry.parts}
    return direct.union(*(users_of(user, loaded) for user in direct))


def refuse_circle(entry: ModelEntry, loaded: Entries) -> None:
    """What lies in the repository is checked there; models that came with load requests may still close a circle.

    Raises:
        FailedPrecondition: The ensemble would lead back to itself through loaded models.
    """
    others = {name: one for name, one in loaded.items() if name != entry.name}
    through = users_of(entry.name, others).union({entry.name}).intersection(entry.parts)
    if through:
        told = f"the ensemble {entry.name} leads back to itself through {', '.join(sorted(through))}, as loaded now"
        raise FailedPrecondition(told, reason="MODEL_CIRCLE", field="ensemble_scheduling.step")


def _parts(name: str, entries: Entries) -> tuple[str, ...]:
    entry = entries.get(name)
    return entry.parts if entry and not entry.problem else ()
