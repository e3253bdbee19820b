"""What a policy says of a database at Neon, and can't be used: refused before anything is asked."""

from pathlib import Path
from threading import Event

import pytest

from reconciler.errors import Refused
from reconciler.policy.redaction import Redactor
from reconciler.policy.secret import Secret, Surroundings, Text
from reconciler.providers.neon.settings import NeonSettings, connect
from reconciler.world.clock import SystemClock

HOST = "http://127.0.0.1:1/api/v2"


def connected(folder: Path, *, host: str, key: str) -> None:
    (folder / "host").write_text(host)
    (folder / "key").write_text(key)
    settings = NeonSettings(
        project="quiet-hotel-1",
        branch="main",
        database="hotel",
        role="hotel_owner",
        api_key=Secret.parse({"file": "key"}),
        api_host=Text.parse({"file": "host"}),
    )
    surroundings = Surroundings(base=folder, environ={}, redactor=Redactor())
    connect("hotel", settings, surroundings=surroundings, clock=SystemClock(), stop=Event())


def test_one_line_each(tmp_path: Path) -> None:
    connected(tmp_path, host=f"{HOST}\n", key="napi_abc\n")


@pytest.mark.parametrize("more", ["\nsecond", " ", "\t", "\x7f", "\u00a0", "\u2028"])
def test_an_address_of_more_than_one_word(tmp_path: Path, more: str) -> None:
    with pytest.raises(Refused, match=r"databases\.hotel\.source\.api_host has a space, a line break") as refused:
        connected(tmp_path, host=HOST + more, key="napi_abc")

    assert "second" not in str(refused.value)


@pytest.mark.parametrize("more", ["\nsecond", " second", "\x1b"])
def test_a_key_of_more_than_one_word(tmp_path: Path, more: str) -> None:
    """It is not shown."""
    with pytest.raises(Refused, match=r"databases\.hotel\.source\.api_key has a space, a line break") as refused:
        connected(tmp_path, host=HOST, key="napi_abc" + more)

    assert "napi_abc" not in f"{refused.value.what} {refused.value.cure}"
    assert "{file: key}" in refused.value.cure
