"""Where the stream of one generation stands, over all its attempts. Pure: it neither sleeps nor calls."""

from atelier.v1.common_pb2 import ON_DISCONNECT_CONTINUE
from atelier.v1.image_generation_pb2 import GenerateRequest, GenerateResponse
from atelier_client._errors import AtelierError
from atelier_client._events import Event, ImageChunk
from atelier_client._read import read_event
from atelier_client._retry import Attempts


class Stream:
    """Reads messages and decides what happens when they stop.

    Before any picture bytes came, the whole stream is asked for again under the same request_id. Afterwards the
    reader holds half a file, so only a server that kept the work (on_disconnect: continue) can go on where it was.

    Args:
        request: Its request_id is set; resume_after_sequence is changed for later attempts.
        attempts: Those of the call.
    """

    def __init__(self, request: GenerateRequest, attempts: Attempts) -> None:
        self.request = request
        self.attempts = attempts
        self._sequence = request.resume_after_sequence
        self._began_pictures = False

    def read(self, message: GenerateResponse) -> Event | None:
        """The event of the next message; None for a kind that this client does not know."""
        event = read_event(message)
        self._sequence = message.sequence
        self._began_pictures = self._began_pictures or isinstance(event, ImageChunk)
        return event

    def wait_after(self, error: AtelierError) -> float | None:
        """Seconds to wait before `request` is sent again; None: the error is final."""
        if self._began_pictures:
            if self.request.on_disconnect != ON_DISCONNECT_CONTINUE:
                return None
            self.request.resume_after_sequence = self._sequence
        return self.attempts.wait_after(error)
