"""Every error of ours has a status, and 429 and 503 say when to try again."""

import json
from http import HTTPStatus

import pytest

from budsim.commons import errors
from budsim.simulator.http.error_envelopes import STATUSES, error_response


def test_every_error_of_ours_has_a_status():
    """Also those that are added later: no subclass of the tree's base is left out."""

    def below(kind: type[errors.BudsimError]) -> set[type[errors.BudsimError]]:
        direct = {one for one in kind.__subclasses__() if one.__module__ == errors.__name__}
        return direct | {deeper for one in direct for deeper in below(one)}

    covered = tuple(kind for kind, _ in STATUSES)
    assert all(issubclass(kind, covered) for kind in below(errors.BudsimError))


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (HTTPStatus.BAD_REQUEST, "BadRequestError", False),
        (HTTPStatus.REQUEST_TIMEOUT, "RequestTimeoutError", False),
        (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestEntityTooLargeError", False),
        (HTTPStatus.UNPROCESSABLE_ENTITY, "UnprocessableEntityError", False),
        (HTTPStatus.TOO_MANY_REQUESTS, "TooManyRequestsError", True),
        (HTTPStatus.INTERNAL_SERVER_ERROR, "InternalServerError", False),
        (HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailableError", True),
    ],
)
def test_an_envelope_names_its_status(status: HTTPStatus, kind: str, hint: bool):
    """By type and by code; the fields are the contract's."""
    response = error_response(status, "why", "field")
    assert json.loads(bytes(response.body)) == {
        "object": "error",
        "message": "why",
        "type": kind,
        "param": "field",
        "code": status,
    }
    assert ("retry-after" in response.headers) is hint
