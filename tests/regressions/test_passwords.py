"""Passwords that could be found out."""

from __future__ import annotations

import base64
import hmac

import pytest

from saq.web.security import Credentials


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("given", ["", "s", "secre", "secreT", "secret and more", "ü"])
@pytest.mark.parametrize("user", ["", "admin", "admi", "root"])
def test_how_long_a_refusal_takes_says_nothing_of_a_password(
    user: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password was compared with `==`, letter by letter, and only for the right user: the time that a
    refusal took told how many letters were right."""
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def note(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    credentials = Credentials(b"admin", b"secret")
    monkeypatch.setattr(hmac, "compare_digest", note)
    assert not credentials.check(basic(user, given))
    assert compared == [(32, 32), (32, 32)], "user and password, always both, and always as long"
    assert credentials.check(basic("admin", "secret"))
