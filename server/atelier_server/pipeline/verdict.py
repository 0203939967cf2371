"""From what each scorer says of a picture to its Scores, with a reason for everything that is missing."""

from atelier_server.brand.palette import Swatch
from atelier_server.pipeline.brand_look import BrandVerdict
from atelier_server.pipeline.clip_scorer import ClipScores
from atelier_server.pipeline.criteria import Criteria
from atelier_server.pipeline.standard import Standard
from atelier_server.types import Scores

DEFAULT_PASS = 1.0
"""The brand score of a picture that there is nothing to compare with."""


def assembled(
    judged: ClipScores | None,
    verdict: BrandVerdict | None,
    standard: Standard,
    swatches: tuple[Swatch, ...],
    criteria: Criteria,
    clip_failure: str,
    brand_failure: str,
) -> Scores:
    """Puts the scores of a picture together; the failures tell why `judged` or `verdict` is None."""
    reasons = _clip_reasons(judged, clip_failure, criteria.prompt) | _brand_reasons(verdict, standard, brand_failure)
    nothing_to_compare = standard.look is None and not standard.reason
    return Scores(
        aesthetic_score=judged.aesthetic_score if judged else None,
        sub_scores=judged.sub_scores if judged else {},
        aesthetic_method=judged.method if judged else "",
        brand_consistency_score=verdict.score if verdict else DEFAULT_PASS if nothing_to_compare else None,
        brand_reference_missing=nothing_to_compare,
        on_brand_probability=verdict.probability if verdict else None,
        palette_distance=standard.look.palette_distance(swatches) if standard.look else None,
        nearest_references=verdict.nearest if verdict else (),
        brand_centroid_similarity=verdict.centroid_similarity if verdict else None,
        prompt_alignment=judged.prompt_alignment if judged else None,
        aesthetic_threshold=criteria.aesthetic_threshold,
        brand_threshold=criteria.brand_threshold,
        missing_reasons=reasons,
        warnings=(*(judged.warnings if judged else ()), *standard.warnings),
    )


def without_scores(criteria: Criteria, reason: str) -> Scores:
    """The scores of a picture that nothing could be said of."""
    return Scores(
        aesthetic_threshold=criteria.aesthetic_threshold,
        brand_threshold=criteria.brand_threshold,
        missing_reasons=dict.fromkeys(("aesthetic_score", "prompt_alignment", "brand_consistency_score"), reason),
    )


def _clip_reasons(judged: ClipScores | None, reason: str, prompt: str | None) -> dict[str, str]:
    if judged is not None:
        return {} if prompt is not None else {"prompt_alignment": "no prompt was given"}
    return {"aesthetic_score": reason, "prompt_alignment": reason}


def _brand_reasons(verdict: BrandVerdict | None, standard: Standard, failure: str) -> dict[str, str]:
    if verdict is not None:
        if verdict.probability is None:
            return {"on_brand_probability": "it needs two references and the brand model's pictures of other brands"}
        return {}
    if standard.look is None and not standard.reason:
        return {}
    return {"brand_consistency_score": standard.reason or failure}
