"""The ways in which Neon's API says no: a status, a code and a sentence, as published.

Where nobody has published what Neon says, the code is empty and the sentence is ours.
"""


class Refusal(Exception):
    """Becomes an answer in the published form."""

    def __init__(self, status: int, message: str, *, code: str = "", retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.retry_after = retry_after


def not_found(what: str, name: str) -> Refusal:
    """There is none of that id or name."""
    return Refusal(404, f"{what} {name} not found", code=f"{what.upper()}_NOT_FOUND")


def invalid(message: str, *, code: str = "") -> Refusal:
    """The request makes no sense, or not now."""
    return Refusal(422, message, code=code)


def taken(what: str, name: str) -> Refusal:
    """The name is another's."""
    return Refusal(409, f"{what} {name} already exists", code=f"{what.upper()}_ALREADY_EXISTS")


def busy() -> Refusal:
    """Something of this project is under way. Always safe to try again."""
    return Refusal(423, "project already has running conflicting operations, scheduling of new ones is prohibited")
