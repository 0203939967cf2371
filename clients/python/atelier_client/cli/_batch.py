"""`atelier generate --from FILE -o FOLDER`: many prompts, resumable."""

import argparse
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from atelier_client._client import Atelier
from atelier_client._errors import AtelierError, DataLoss, ResourceExhausted, Unavailable
from atelier_client._result import GenerationResult
from atelier_client._retry import Attempts, Retry
from atelier_client.cli._generate import check_folder, document, picture_paths, write
from atelier_client.cli._interrupt import interruptible
from atelier_client.cli._output import Answer
from atelier_client.cli._progress import BatchBar, batch_bar
from atelier_client.cli._results import Results
from atelier_client.cli._rows import Row, read_rows
from atelier_client.cli._sheet import require_pillow, write_sheet

_ROW_SECONDS = 600.0
# A row outlives restarts of its server: it is tried again until its own time is over.
PATIENT = Retry(attempts=1_000_000, first_seconds=0.5, longest_seconds=15.0)


def generate_many(atelier: Atelier, options: argparse.Namespace) -> Answer:
    """Makes what the folder lacks of the file's pictures."""
    rows = read_rows(options.source, options)
    folder = Path(options.output)
    if options.sheet:
        require_pillow()
    check_folder(folder)
    interruptible(atelier, atelier.health)  # a wrong address ends here, before the patience of the rows
    with Results(folder) as results:
        done = results.done()
        missing = [row for row in rows if row.key not in done]
        with batch_bar(len(rows), len(rows) - len(missing), quiet="json" in options) as bar:
            failed = _Batch(atelier, folder, results, bar).run(missing, options.jobs)
        results.finish([row.key for row in rows])
    sheet = write_sheet(folder) if options.sheet else None
    counts = {"rows": len(rows), "made": len(missing) - len(failed), "kept": len(rows) - len(missing)}
    return _answer(counts, failed, results.path, sheet)


class _Batch:
    """Runs rows on threads; pictures and record are written by one, which is the caller's."""

    def __init__(self, atelier: Atelier, folder: Path, results: Results, bar: BatchBar) -> None:
        self._atelier, self._folder, self._results, self._bar = atelier, folder, results, bar
        self._given_up = threading.Event()

    def run(self, rows: list[Row], jobs: int) -> list[Mapping[str, Any]]:
        """Makes every row and returns the lines of those that failed, in the order of the rows."""
        pool = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="row")
        try:
            calls = {pool.submit(self._call, row): row for row in rows}
            lines = []
            for call in as_completed(calls):
                lines.append(self._record(calls.pop(call), call.result()))
            return sorted((line for line in lines if "error" in line), key=lambda line: int(line["row"]))
        except BaseException:
            self._given_up.set()
            self._atelier.close()  # the calls that run end at once
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _record(self, row: Row, outcome: GenerationResult | AtelierError) -> Mapping[str, Any]:
        line: dict[str, Any] = {"row": row.number, "name": row.name, "key": row.key, "prompt": row.prompt}
        if isinstance(outcome, AtelierError):
            facts = {"code": outcome.code, "message": outcome.message}
            line["error"] = facts | {"field": outcome.field or None, "reason": outcome.reason or None}
        else:
            file = self._folder / f"{row.name}{outcome.images[0].extension}"
            paths = [
                write(image, path) for image, path in zip(outcome.images, picture_paths(file, outcome), strict=True)
            ]
            line |= document(outcome, [path.relative_to(self._folder) for path in paths])
        self._results.add(line)
        self._bar.finished(row.number)
        return line

    def _call(self, row: Row) -> GenerationResult | AtelierError:
        fields: dict[str, Any] = {"request_id": self._results.request_id(row.key), "on_disconnect": "continue"}
        fields |= row.fields
        again = (Unavailable, ResourceExhausted, DataLoss)
        hear = partial(self._bar.heard, row.number)
        attempts = Attempts(PATIENT, fields.pop("timeout", _ROW_SECONDS), again=again)
        while True:
            try:
                return self._atelier.generate(row.prompt, on_event=hear, timeout=attempts.remaining(), **fields)
            except AtelierError as error:
                wait = attempts.wait_after(error)
                if wait is None:
                    return error
                self._bar.say(f"row {row.number} waits: {error.message}")
                if self._given_up.wait(wait):
                    return error


def _answer(counts: Mapping[str, int], failed: list[Mapping[str, Any]], record: Path, sheet: Path | None) -> Answer:
    facts = dict(counts) | {"failed": len(failed), "results": str(record), "sheet": str(sheet) if sheet else None}
    text = [f"{counts['made']} made, {counts['kept']} there already, {len(failed)} failed", f"results  {record}"]
    if sheet is not None:
        text.append(f"sheet    {sheet}")
    if not failed:
        return Answer(facts, "\n".join(text))
    failures = [{"row": line["row"], **line["error"]} for line in failed]
    (code, reason), _ = Counter((one["code"], one["reason"] or "") for one in failures).most_common(1)[0]
    first = f"row {failures[0]['row']}: {failures[0]['message']}"
    message = f"{len(failed)} of {counts['rows']} rows failed, such as {first} The same command tries them again."
    return Answer(facts | {"failures": failures}, "\n".join(text), AtelierError(message, code=code, reason=reason))
