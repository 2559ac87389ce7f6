"""What goes wrong in a request, as HTTP: a status and {"error": {"kind", "message", "what_to_do"}}."""

from __future__ import annotations

from typing import Any

from starlette.requests import ClientDisconnect

from moodcast.audio import AudioError, NotAudio, TooLong


class ServiceError(Exception):
    """A refusal that a client can read: HTTP status, a kind for programs, a message and what to do about it for people."""

    def __init__(self, status: int, kind: str, message: str, what_to_do: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.what_to_do = what_to_do
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {"error": {"kind": self.kind, "message": self.message, "what_to_do": self.what_to_do}}

    @property
    def headers(self) -> dict[str, str]:
        """Retry-After where trying again may help."""
        return {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}


def too_large(limit_bytes: int) -> ServiceError:
    """413 for a body beyond the limit."""
    return ServiceError(
        413,
        "too_large",
        f"the upload is larger than the limit of {limit_bytes / 1e6:g} MB",
        "send a compressed file (opus, mp3, flac) or a part of it; who runs the service can raise MOODCAST_MAX_MB",
    )


def stalled(idle_s: float) -> ServiceError:
    """408 for a body of which nothing more comes."""
    return ServiceError(
        408, "stalled", f"nothing of the upload came for {idle_s:g} s", "send it again, over a steadier connection or as a smaller file"
    )


def bad_option(message: str, what_to_do: str = "see /docs for the options") -> ServiceError:
    """422 for an option that does not fit."""
    return ServiceError(422, "bad_option", message, what_to_do)


def busy(running: int, waiting: int) -> ServiceError:
    """503 where too many analyses are under way already."""
    return ServiceError(503, "busy", f"{running} analyses are running and {waiting} are waiting", "try again later", retry_after_s=10)


def explain(error: BaseException) -> ServiceError:
    """Any exception as a refusal; what nobody foresaw is a 500 that does not leak its text.

    An error of another process may carry its origin as `.cause` (Ray's task errors do).
    """
    if isinstance(error, ServiceError):
        return error
    origin = getattr(error, "cause", None)
    if isinstance(origin, Exception) and origin is not error:
        return explain(origin)
    if isinstance(error, AudioError):
        return _audio_refused(error)
    if isinstance(error, ClientDisconnect):
        return ServiceError(400, "gone", "the client left before the upload was whole", "send it again")
    return ServiceError(
        500, "internal", "something went wrong inside the service", "try again; if it stays, tell who runs it (logs hold it)"
    )


def _audio_refused(error: AudioError) -> ServiceError:
    if isinstance(error, NotAudio):
        return ServiceError(415, "not_audio", str(error), "send a sound or video file: wav, flac, ogg, opus, mp3, m4a, mp4, webm, ...")
    if isinstance(error, TooLong):
        told = str(error).partition("; raise max_hours")[0]  # the rest is for who calls the library
        return ServiceError(413, "too_long", told, "send it in parts; who runs the service can raise MOODCAST_MAX_HOURS")
    return ServiceError(422, "unreadable", str(error), "check that the file plays to its end, and export it again")
