"""`atelier generate`."""

import argparse
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from atelier_client import _fields
from atelier_client._client import Atelier
from atelier_client._errors import InvalidArgument
from atelier_client._events import Event, Progress
from atelier_client._result import GeneratedImage, GenerationResult
from atelier_client._types import Scores
from atelier_client.cli._output import Answer, show, table
from atelier_client.cli._preview import Screen
from atelier_client.cli._progress import progress_bar
from atelier_client.cli._terminal import find_terminal

_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
_BRAND_MISSING = "brand_reference_missing: without brand references the brand score is the default pass."


def generate(atelier: Atelier, options: argparse.Namespace) -> Answer:
    """Makes pictures, shows the progress, writes the files."""
    fields = request_fields(options)
    if options.output_format is None and options.output is not None:
        fields["output_format"] = _FORMATS.get(Path(options.output).suffix.lower())
    _check_output(options.output)
    previews = _Previews(options.previews) if options.previews else None
    quiet = "json" in options
    terminal = None if quiet else find_terminal(options.preview_terminal)
    screen = Screen(terminal) if terminal else None
    if previews is not None:
        fields["preview"] = _fields.PreviewOptions(every_n_steps=1)
    elif screen is not None:
        fields["preview"] = screen.wish
    with progress_bar(quiet=quiet, screen=screen) as bar:

        def on_event(event: Event) -> None:
            bar(event)
            if previews is not None and isinstance(event, Progress):
                previews.save(event)

        result = atelier.generate(options.prompt, on_event=on_event, **fields)
    paths = [write(image, path) for image, path in zip(result.images, _paths(options.output, result), strict=True)]
    return Answer(document(result, paths), _text(result, paths))


def request_fields(options: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of Atelier.generate, as the options say."""
    known = _fields.GenerateFields.__annotations__
    fields: dict[str, Any] = {name: value for name, value in vars(options).items() if name in known}
    if options.size is not None:
        fields["width"], fields["height"] = options.size
    if options.metadata is not None:
        fields["metadata"] = dict(options.metadata)
    if "timeout" in options:
        fields["timeout"] = options.timeout
    return fields


def _check_output(output: str | None) -> None:
    """Before the work, not after it."""
    if output and (not Path(output).name or Path(output).is_dir()):
        raise InvalidArgument(f"-o {output} is a folder; name a file in it.", field="output")
    check_folder(Path(output).parent if output else Path())


def check_folder(folder: Path) -> None:
    """Makes the folder where it is missing.

    Raises:
        InvalidArgument: It cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidArgument(f"The folder {folder} cannot be made: {error.strerror}.", field="output") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidArgument(f"The folder {folder} cannot be written to; choose another with -o.", field="output")


def _paths(output: str | None, result: GenerationResult) -> Iterator[Path]:
    """Those of picture_paths; without an output names that no other picture has."""
    if output is not None:
        return picture_paths(Path(output), result)
    return (Path(f"atelier-{image.sha256[:12]}{image.extension}") for image in result.images)


def picture_paths(path: Path, result: GenerationResult) -> Iterator[Path]:
    """PATH, or PATH-1, PATH-2 … of several pictures."""
    if len(result.images) == 1:
        yield path
        return
    for number in range(1, len(result.images) + 1):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def write(image: GeneratedImage, path: Path) -> Path:
    """All of the file or nothing of it, also when the disk is full."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        image.save(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


class _Previews:
    """Saves previews as FOLDER/preview-PICTURE-STEP.EXTENSION."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidArgument(f"{folder} is no folder: {error.strerror}.", field="previews") from error

    def save(self, event: Progress) -> None:
        """Writes the event's preview, if it has one."""
        if event.preview is not None:
            extension = event.preview.media_type.rpartition("/")[2].replace("jpeg", "jpg")
            name = f"preview-{event.image_index + 1}-{event.step:03}.{extension}"
            (self._folder / name).write_bytes(event.preview.data)


def document(result: GenerationResult, paths: list[Path]) -> dict[str, object]:
    """What the contract says of a generation, with the paths of its pictures."""
    copied = (
        *("request_id", "model_used", "model_version", "routing_reason", "prompt_used", "negative_prompt_used"),
        *("generation_time_ms", "cached", "attempts", "restarts", "reproducibility", "ignored_fields"),
        *("accelerations", "timings_ms", "metadata", "timestamp"),
    )
    images = [_image_document(image, path) for image, path in zip(result.images, paths, strict=True)]
    paid = {"usage": asdict(result.usage)} if result.usage is not None else {}
    return {name: getattr(result, name) for name in copied} | paid | {"images": images}


def _image_document(image: GeneratedImage, path: Path) -> dict[str, object]:
    scores = image.scores
    return {
        "path": str(path),
        "seed": image.seed,
        "sha256": image.sha256,
        "width": image.width,
        "height": image.height,
        "native_width": image.native_dimensions.width,
        "native_height": image.native_dimensions.height,
        "media_type": image.media_type,
        "aesthetic_score": scores.aesthetic_score,
        "brand_consistency_score": scores.brand_consistency_score,
        "brand_reference_missing": scores.brand_reference_missing,
        "prompt_alignment": scores.prompt_alignment,
        "passed": scores.passed,
        "missing_reasons": scores.missing_reasons,
    }


def _text(result: GenerationResult, paths: list[Path]) -> str:
    rows = [
        (
            path,
            image.dimensions,
            image.seed,
            image.scores.aesthetic_score,
            image.scores.brand_consistency_score,
            image.scores.prompt_alignment,
            image.scores.passed,
        )
        for image, path in zip(result.images, paths, strict=True)
    ]
    stages = ", ".join(f"{stage} {_seconds(time)}" for stage, time in sorted(result.timings_ms.items()) if time >= 1.0)
    cached = ", cached" if result.cached else ""
    return "\n".join(
        [
            table(("picture", "size", "seed", "aesthetic", "brand", "alignment", "passed"), rows),
            f"model    {result.model_used} {result.model_version}: {show(result.routing_reason)}",
            f"time     {_seconds(result.generation_time_ms)}{cached}" + (f" ({stages})" if stages else ""),
            *_notes(result),
        ]
    )


def notes_on(scores: Iterable[Scores]) -> Iterator[str]:
    """Lines on what holds for some of the pictures, each said once."""
    scores = list(scores)
    notes = [shortfall for one in scores for shortfall in _shortfalls(one)]
    notes += [_BRAND_MISSING for one in scores if one.brand_reference_missing]
    notes += [f"no {name}: {reason}" for one in scores for name, reason in sorted(one.missing_reasons.items())]
    notes += [warning for one in scores for warning in one.warnings]
    return (f"note     {note}" for note in dict.fromkeys(notes))


def _shortfalls(scores: Scores) -> Iterator[str]:
    """Why a picture did not pass."""
    for name, passed, score, threshold in (
        ("aesthetic", scores.aesthetic_passed, scores.aesthetic_score, scores.aesthetic_threshold),
        ("brand", scores.brand_passed, scores.brand_consistency_score, scores.brand_threshold),
    ):
        if passed is False:
            yield f"not passed: {name} {show(score)} is under {show(threshold)}."


def _notes(result: GenerationResult) -> Iterator[str]:
    yield from notes_on(image.scores for image in result.images)
    for cut in result.truncated_tokens:
        counts = f"{cut.prompt_tokens} tokens of the prompt, {cut.negative_prompt_tokens} of the negative prompt"
        yield f"note     {cut.encoder} cannot read so much: {counts} had no effect."
    if result.usage is not None:
        yield f"note     it costs about ${result.usage.estimated_cost_usd:.3f} at {result.model_used}."
    if result.accelerations:
        yield f"note     computed faster, at a loss, by {' and '.join(result.accelerations)}."
    if result.ignored_fields:
        yield f"note     {result.model_used} cannot honour: {', '.join(result.ignored_fields)}."


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.2f} s"
