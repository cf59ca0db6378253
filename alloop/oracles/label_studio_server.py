"""The REST interface of a Label Studio server: reading is retried, writing never is.

When the outcome of a write is unknown, `UnknownOutcomeError` says so and the caller looks at what arrived. The token is
read from the environment when it is needed and stands in no file and no message. No redirect is followed and no proxy
is used, so that nothing is sent anywhere but to the configured server.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx

from alloop.errors import AlloopError, ConfigError, UnreachableError

TIMEOUT = 60.0  # seconds of one request
TRIES = 4  # attempts at reading
PAUSE = 0.5  # seconds before the second attempt; it doubles with each


class UnknownOutcomeError(Exception):
    """The reply to a request was lost: the server may or may not have done what was asked."""


@dataclass(frozen=True)
class Server:
    """One Label Studio server; the only place that opens a connection.

    `url` has no slash at its end; `token_name` is the environment variable that holds the access token.
    """

    url: str
    token_name: str

    def get(self, path: str, **query: Any) -> Any:
        """Read a path and return its JSON; try again after a pause when the server does not answer.

        Raises:
            UnreachableError: the server did not answer any attempt.
            AlloopError: the server refused.
        """
        for attempt in range(TRIES):
            try:
                return self._send("GET", path, params=query)
            except UnknownOutcomeError as error:
                if attempt + 1 == TRIES:
                    msg = f"{self.url}: the server did not answer ({error}); try again when it is back"
                    raise UnreachableError(msg) from None
                time.sleep(PAUSE * 2**attempt)
        raise AssertionError

    def write(self, method: str, path: str, body: Any = None) -> Any:
        """Send JSON once and return the reply.

        Raises:
            UnknownOutcomeError: nobody knows whether it was done.
            UnreachableError: no server answers at this address.
            AlloopError: the server refused.
        """
        content = json.dumps(body, allow_nan=False).encode()
        return self._send(method, path, content=content, headers={"Content-Type": "application/json"})

    def upload(self, path: str, files: Mapping[str, bytes]) -> Any:
        """Send files by name and return the reply; raise as `write` does."""
        # each file has a field of its own, since the server keeps only the last file of a field
        parts = {
            f"file{k}": (quote(name), data, "application/octet-stream") for k, (name, data) in enumerate(files.items())
        }
        return self._send("POST", path, files=parts)

    def _send(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **content: Any) -> Any:
        return self._request(
            method, path, headers={"Authorization": self._authorization(), **(headers or {})}, **content
        )

    def _authorization(self) -> str:
        """Return the header for the token; a personal access token is exchanged for a short-lived one."""
        token = os.environ.get(self.token_name, "").strip()
        if not token:
            msg = f"oracle.token: the environment variable {self.token_name} is not set; it holds the access token"
            raise ConfigError(msg)
        if not token.isascii() or not token.isprintable():
            msg = f"oracle.token: the environment variable {self.token_name} holds characters that no token has"
            raise ConfigError(msg)
        if token.count(".") != 2:
            return f"Token {token}"
        reply = self._request("POST", "/api/token/refresh/", json={"refresh": token})
        return f"Bearer {reply['access']}"

    def _request(self, method: str, path: str, **content: Any) -> Any:
        """Send one request and return its JSON."""
        try:
            reply = httpx.request(
                method, self.url + path, timeout=TIMEOUT, follow_redirects=False, trust_env=False, **content
            )
        except httpx.HTTPError as error:
            if isinstance(error, httpx.ConnectError) and _is_refusal(error):
                msg = f"{self.url}: no server answers there; start it, or mend oracle.url"
                raise UnreachableError(msg) from None
            raise UnknownOutcomeError(type(error).__name__) from None
        if not reply.is_success:
            raise self._refusal(method, path, reply)
        try:
            return reply.json() if reply.content else None
        except ValueError:
            msg = f"{self.url}{path.partition('?')[0]}: expected JSON from Label Studio, found something else"
            raise AlloopError(msg) from None

    def _refusal(self, method: str, path: str, reply: httpx.Response) -> Exception:
        """Return the error for a reply that is no success."""
        status = reply.status_code
        where = f"{self.url}: {method} {path.partition('?')[0]}"
        if reply.is_server_error:
            return UnknownOutcomeError(f"status {status}")
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return ConfigError(
                f"{where}: the token in {self.token_name} was refused (status {status}); give one that may use the "
                "project, and allow legacy tokens in the organization's settings if it is one"
            )
        if reply.is_redirect:
            return AlloopError(f"{where}: the server points elsewhere (status {status}); give its own address")
        reason = reply.text[:300] if status == HTTPStatus.BAD_REQUEST else ""
        return AlloopError(f"{where}: refused with status {status} {reason}".rstrip())


def _is_refusal(error: BaseException | None) -> bool:
    """Return whether a refused connection is among the causes of an error."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False
