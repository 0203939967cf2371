"""What AUTO reads in a prompt: features with weights, which are data (prompts.toml), and which of them decide."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

LOCAL, OPENAI = "local", "openai"
_BOUNDARY = re.compile(r"[,.;:!?()]|\b(?:but|with|and)\b")


@dataclass(frozen=True, slots=True)
class Feature:
    """Something in a prompt that speaks for a kind of model; `says` is what callers read of it."""

    name: str
    says: str
    speaks_for: str
    weight: float
    patterns: tuple[re.Pattern[str], ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """A feature that a prompt or a call has, and the words that show it."""

    feature: str
    says: str
    speaks_for: str
    weight: float
    words: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which kind of model is wanted. `decisive` are the findings without which it would be the other one."""

    wanted: str
    scores: Mapping[str, float]
    findings: tuple[Finding, ...]
    decisive: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class RoutingRules:
    """The features, the words that deny what follows them within `reach` words, and the weights of a call's fields."""

    features: tuple[Feature, ...]
    denials: re.Pattern[str]
    reach: int
    fields: Mapping[str, float]

    def without(self, names: Iterable[str]) -> "RoutingRules":
        """The rules as if these features, or fields, did not exist."""
        gone = set(names)
        return replace(
            self,
            features=tuple(feature for feature in self.features if feature.name not in gone),
            fields={name: weight for name, weight in self.fields.items() if name not in gone},
        )

    def judge(self, prompt: str, set_fields: Mapping[str, str] | None = None) -> Verdict:
        """Adds up what speaks for each kind; a tie, or nothing at all, stays local.

        Args:
            prompt: The caller's words.
            set_fields: Fields of the call that only a local model honours, with what callers read of them.
        """
        findings = [found for feature in self.features if (found := self._find(feature, prompt))]
        for name, says in (set_fields or {}).items():
            if name in self.fields:
                findings.append(Finding(name, says, LOCAL, self.fields[name]))
        scores = _scores(findings)
        wanted = _winner(scores)
        return Verdict(wanted, scores, tuple(findings), _decisive(findings, wanted))

    def _find(self, feature: Feature, prompt: str) -> Finding | None:
        for pattern in feature.patterns:
            for match in pattern.finditer(prompt):
                if not self._is_denied(prompt, match.start()):
                    return Finding(feature.name, feature.says, feature.speaks_for, feature.weight, match[0].strip())
        return None

    def _is_denied(self, prompt: str, start: int) -> bool:
        clause = _BOUNDARY.split(prompt[:start])[-1]
        return any(self.denials.fullmatch(word) for word in re.findall(r"[\w'’]+", clause)[-self.reach :])


def read_rules(data: Mapping[str, Any]) -> RoutingRules:
    """Reads the section [routing].

    Raises:
        KeyError, ValueError, re.error: Something is missing or wrong.
    """
    features = []
    for entry in data["feature"]:
        if entry["for"] not in (LOCAL, OPENAI):
            raise ValueError(f"feature {entry['name']}: for is {LOCAL} or {OPENAI}")
        patterns = tuple(re.compile(text, re.IGNORECASE) for text in entry["patterns"])
        features.append(Feature(entry["name"], entry["says"], entry["for"], float(entry["weight"]), patterns))
    denials = "|".join(re.escape(word) for word in data["denials"])
    fields = {str(name): float(weight) for name, weight in data["fields"].items()}
    return RoutingRules(tuple(features), re.compile(denials, re.IGNORECASE), int(data["reach"]), fields)


def _scores(findings: Iterable[Finding]) -> dict[str, float]:
    scores = {LOCAL: 0.0, OPENAI: 0.0}
    for found in findings:
        scores[found.speaks_for] += found.weight
    return scores


def _winner(scores: Mapping[str, float]) -> str:
    return OPENAI if scores[OPENAI] > scores[LOCAL] else LOCAL


def _decisive(findings: Sequence[Finding], wanted: str) -> tuple[Finding, ...]:
    """The fewest findings, heaviest first, without which the other kind would have won; () where it could not."""
    supporters = sorted((found for found in findings if found.speaks_for == wanted), key=lambda found: -found.weight)
    for count in range(1, len(supporters) + 1):
        gone = supporters[:count]
        if _winner(_scores(found for found in findings if found not in gone)) != wanted:
            return tuple(gone)
    return ()
