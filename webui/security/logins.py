"""The logins of remote mode: argon2 hashes, compared in constant time, and few tries."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import argon2

from webui.errors import UserError
from webui.settings import Settings

TRIES_PER_ADDRESS: Final = 10
TRIES_PER_NAME: Final = 20
TRIES_SECONDS: Final = 300.0
"""So many wrong passwords in so long; then that address, or that name, waits."""

_KNOWN_PASSWORDS: Final = 256
_KNOWN_KEYS: Final = 4096
_MAX_WORD: Final = 1024
"""Characters of a name or a password: hashing a longer one would be work for nothing."""
_AUTH_LINE: Final = re.compile(r"(?P<name>[^:\s][^:]*):(?P<hash>\$argon2(id|i|d)\$\S+)")


class Logins:
    """Who may log in. `hashes` is name to argon2 hash; `made_up` is the login that the owner has not seen yet.

    Safe from any thread: one password is hashed at a time, so that many tries cost no more memory than one.
    """

    def __init__(
        self,
        hashes: Mapping[str, str],
        made_up: tuple[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.made_up = made_up
        self._hashes = dict(hashes)
        self._hasher = _hasher()
        self._nobody = self._hasher.hash(secrets.token_urlsafe(12))
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._wrong = Tries(clock)
        self._hashing = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Everybody who may log in."""
        return tuple(self._hashes)

    def check(self, name: str, password: str, address: str) -> bool:
        """Whether they are right, in a time that does not tell whether the name exists or how nearly they are.

        Raises UserError when this address or this name has been wrong too often.
        """
        if max(len(name), len(password)) > _MAX_WORD:
            return False
        keys = {f"address {address}": TRIES_PER_ADDRESS, f"name {name}": TRIES_PER_NAME}
        with self._hashing:
            digest = hmac.digest(self._key, f"{len(name)} {name}{password}".encode("utf-8", "replace"), hashlib.sha256)
            if digest in self._known:
                return True
            self._wrong.check(keys)
            if self._is_right(name, password):
                self._known[digest] = None
                if len(self._known) > _KNOWN_PASSWORDS:
                    self._known.popitem(last=False)
                return True
            self._wrong.add(keys)
            return False

    def _is_right(self, name: str, password: str) -> bool:
        known = self._hashes.get(name)
        try:
            matches = self._hasher.verify(known or self._nobody, password.encode("utf-8", "replace"))
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
        return matches and known is not None


class Tries:
    """What went wrong lately, by key; the caller guards it with a lock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, limits: Mapping[str, int]) -> None:
        """Raise UserError, with the seconds to wait, when a key has used up its limit."""
        now = self._clock()
        for key, limit in limits.items():
            times = self._times.get(key, deque())
            while times and now - times[0] > TRIES_SECONDS:
                times.popleft()
            if len(times) >= limit:
                raise UserError("error.too_many_logins", seconds=int(TRIES_SECONDS - (now - times[0])) + 1)

    def add(self, keys: Mapping[str, int]) -> None:
        """One more wrong try of each key; the keys seen longest ago are forgotten when there are too many."""
        for key, limit in keys.items():
            self._times.setdefault(key, deque(maxlen=limit)).append(self._clock())
            self._times.move_to_end(key)
            if len(self._times) > _KNOWN_KEYS:
                self._times.popitem(last=False)


def logins_for(settings: Settings) -> Logins | None:
    """The logins that these settings require: none on this machine alone; a password is made up when none is given.

    Raises UserError when the file of logins cannot be used.
    """
    if not settings.remote:
        return None
    if settings.auth_file is not None:
        return Logins(read_auth_file(settings.auth_file))
    name = settings.login_name
    if settings.login_password is not None:
        return Logins({name: hash_password(settings.login_password.get_secret_value())})
    password = secrets.token_urlsafe(12)
    return Logins({name: hash_password(password)}, made_up=(name, password))


def hash_password(password: str) -> str:
    """The argon2id hash to keep instead of `password`, with its salt and cost in it (PHC string format)."""
    return _hasher().hash(password.encode("utf-8", "replace"))


def read_auth_file(path: Path) -> dict[str, str]:
    """The logins in `path`: lines "name:hash" as `diffuscope password` prints them; `#` starts a comment line.

    Raises UserError that names the line; never with what it says, which may be a password.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("error.auth_file_unreadable", path=str(path)) from error
    logins: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        match = _AUTH_LINE.fullmatch(line)
        if match is None or not _is_hash(match["hash"]):
            raise UserError("error.auth_file_line", path=str(path), line=number)
        if match["name"] in logins:
            raise UserError("error.auth_file_twice", path=str(path), line=number)
        logins[match["name"]] = match["hash"]
    if not logins:
        raise UserError("error.auth_file_empty", path=str(path))
    return logins


def _is_hash(word: str) -> bool:
    try:
        argon2.extract_parameters(word)
    except argon2.exceptions.InvalidHashError:
        return False
    return True


def _hasher() -> argon2.PasswordHasher:
    """OWASP's minimum for argon2id (19 MiB, 2 passes): one login may not slow the picture that is being drawn."""
    return argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
