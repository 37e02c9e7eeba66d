"""OpenPGP through the `gpg` program: signing with one key, and telling who signed.

Keys are imported into a home of their own, which is gone afterwards with its agent. Only gpg's status
lines and colon lists are read (doc/DETAILS of GnuPG), never what it says to people. gpg signs one
message per start, and checks many: what is started once besides is the agent.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from secure_build import files, process
from secure_build.errors import AbsentKeyError, RefusedError, SecureBuildError, UsageError
from secure_build.process import ProcessError, Program
from secure_build.secret import Secret

# Of the user's own home, where there is one: what finds the agent, and lets it ask for a PIN.
_GPG = Program(
    "gpg", "gnupg", ("GNUPGHOME", "GPG_TTY", "DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS")
)
_GPGCONF = Program("gpgconf", "gpgconf")
_SECONDS = 60.0
# A person may have to touch a card.
_CARD_SECONDS = 180.0
_LARGEST_SIGNED = 1 << 20
_STATUS = re.compile(r"^\[GNUPG:\] (\S+) ?(.*)$", re.MULTILINE)
_NEXT_FILE = "[GNUPG:] FILE_START "
_PRIVATE, _PUBLIC = "PRIVATE", "PUBLIC"
# The hash algorithms that a signature may use: SHA-256, 384 and 512 (RFC 4880, 9.4).
_HASHES = frozenset({"8", "9", "10"})
# libgpg-error: the lower half of an error is its code.
_CODE = 0xFFFF
_BAD_PASSPHRASE, _NO_PINENTRY, _NO_PASSPHRASE = 11, 85, 177
_UNUSABLE = {"e": "has expired", "r": "is revoked", "d": "is disabled", "i": "is not valid"}
_REFUSALS = {
    "EXPSIG": "the signature has expired",
    "EXPKEYSIG": "the key that signed has expired",
    "REVKEYSIG": "the key that signed is revoked",
    "BADSIG": "the signature is not of this content",
    "ERRSIG": "it is signed by another key, or in a way that cannot be checked",
}


@dataclass(frozen=True, slots=True)
class _Home:
    """What gpg takes its keys from; None is the user's own home."""

    path: Path | None

    def run(self, *arguments: str, stdin: bytes = b"", seconds: float = _SECONDS) -> bytes:
        home = ["--homedir", str(self.path)] if self.path else []
        options = [*home, "--batch", "--no-tty", "--quiet", "--trust-model", "always"]
        return process.run(_GPG, [*options, *arguments], stdin=stdin, timeout=seconds, quiet=True)


@dataclass(frozen=True, slots=True)
class GpgKey:
    """A key that signs. `fingerprint` is that of the primary key; `what` is how messages call it.

    `part` is the fingerprint of what signs: the primary key itself where it can, else a subkey.
    """

    fingerprint: str
    part: str
    what: str
    _home: _Home
    _folder: Path
    _passphrase: Secret | None

    @property
    def public_key(self) -> bytes:
        """The public key, byte for byte as `gpg --armor --export` writes it."""
        return self._home.run("--armor", "--export", self.fingerprint)

    def sign(self, content: bytes) -> bytes:
        """An OpenPGP message with the content and its signature; raises UsageError when the key cannot."""
        # With the mark it is this part and no other: gpg itself prefers subkeys. Of these hashes it takes
        # one that fits the key. The user's own options may ask for text.
        options = ["--local-user", f"{self.part}!", "--status-fd", "1", "--no-armor"]
        options += ["--personal-digest-preferences", "SHA512 SHA384 SHA256"]
        stdin = b""
        if self._passphrase is not None:
            options += ["--pinentry-mode", "loopback", "--passphrase-fd", "0"]
            stdin = self._passphrase.reveal().encode() + b"\n"
        elif self._home.path is not None:
            # Nobody is to be asked.
            options += ["--pinentry-mode", "error"]
        with tempfile.TemporaryDirectory(prefix=".keys-", dir=self._folder) as folder:
            message, signed = Path(folder) / "message", Path(folder) / "signed"
            message.write_bytes(content)
            arguments = [*options, "--output", str(signed), "--sign", str(message)]
            try:
                self._home.run(*arguments, stdin=stdin, seconds=_CARD_SECONDS)
            except ProcessError as error:
                raise self._cannot_sign(error) from None
            return files.read(signed, at_most=_LARGEST_SIGNED)

    def _cannot_sign(self, error: ProcessError) -> UsageError:
        failures = [value.split()[-1] for name, value in _STATUS.findall(error.output) if name == "FAILURE"]
        codes = {int(code) & _CODE for code in failures if code.isdecimal()}
        if codes & {_BAD_PASSPHRASE, _NO_PASSPHRASE}:
            return UsageError(f"{self.what} cannot sign: the passphrase is wrong", hint="check `passphrase:`")
        if codes & {_NO_PINENTRY}:
            return UsageError(
                f"{self.what} cannot sign: it is encrypted, and there is no passphrase for it",
                hint="name it: `passphrase:`",
            )
        return UsageError(f"{self.what} cannot sign: gpg {error.ending}: {error.output.strip()}")


@dataclass(frozen=True, slots=True)
class Signed:
    """What was signed, and by which key: the fingerprint of the primary one."""

    content: bytes
    fingerprint: str


@dataclass(frozen=True, slots=True)
class PublicPart:
    """A primary key: its fingerprint, what gpg has against it (None: nothing), and when it ends.

    `can_sign` tells whether anything of it signs, `by_subkey` that the primary key itself does not.
    """

    fingerprint: str
    fault: str | None
    ends: datetime | None
    can_sign: bool
    by_subkey: bool


@dataclass(frozen=True, slots=True)
class GpgVerifier:
    """Tells what public keys have signed; mostly there is one."""

    fingerprints: frozenset[str]
    _home: _Home

    @property
    def fingerprint(self) -> str:
        """Of the only key."""
        (only,) = self.fingerprints
        return only

    def parts(self) -> list[PublicPart]:
        """The keys as gpg knows them now."""
        found: list[tuple[list[str], str, list[list[str]]]] = []
        for fields in _listed(self._home, "--list-keys", ""):
            if fields[0] == "pub":
                found.append((fields, "", []))
            elif fields[0] == "fpr" and found and not found[-1][1]:
                found[-1] = (found[-1][0], fields[9], found[-1][2])
            elif fields[0] == "sub" and found:
                found[-1][2].append(fields)
        return [_part(primary, fingerprint, subkeys) for primary, fingerprint, subkeys in found]

    def verify(self, message: bytes) -> Signed:
        """What is in a signed message, which is binary; raises RefusedError for every other, and for what a
        key signed that has expired or is revoked."""
        assert self._home.path is not None
        if message[:1] < b"\x80":
            raise RefusedError("it is no signed OpenPGP message")
        with tempfile.TemporaryDirectory(dir=self._home.path) as folder:
            signed, content = Path(folder) / "signed", Path(folder) / "content"
            signed.write_bytes(message)
            try:
                # What is packed may be very large unpacked.
                options = ["--status-fd", "1", "--max-output", str(_LARGEST_SIGNED)]
                said = self._home.run(*options, "--output", str(content), "--verify", str(signed))
            except ProcessError as error:
                raise RefusedError(_reason(error.output) or "it is no signed OpenPGP message") from None
            return self._signed(said.decode(errors="replace"), content)

    def verify_own(self, messages: Sequence[bytes]) -> list[Signed]:
        """The same of messages that were made here a moment ago, with one start of gpg for all.

        Those of others it is not for: gpg would also open what is encrypted.
        """
        assert self._home.path is not None
        with tempfile.TemporaryDirectory(dir=self._home.path) as folder:
            contents = [Path(folder) / str(number) for number in range(len(messages))]
            packed = [content.with_suffix(".gpg") for content in contents]
            for path, message in zip(packed, messages, strict=True):
                path.write_bytes(message)
            try:
                options = ["--status-fd", "1", "--max-output", str(_LARGEST_SIGNED), "--multifile"]
                said = self._home.run(*options, "--decrypt", *map(str, packed)).decode(errors="replace")
            except ProcessError as error:
                raise RefusedError(_reason(error.output) or "it is no signed OpenPGP message") from None
            # What is said of a file stands between its mark and the next one.
            _, *parts = said.split(_NEXT_FILE)
            if [part.partition("\n")[0] for part in parts] != [f"3 {path}" for path in packed]:
                raise RefusedError("gpg did not check all of what was signed")
            return [self._signed(*one) for one in zip(parts, contents, strict=True)]

    def _signed(self, said: str, content: Path) -> Signed:
        """What gpg says of a message, whose content it has written; raises RefusedError."""
        if reason := _reason(said):
            raise RefusedError(reason)
        statuses = _STATUS.findall(said)
        names = [name for name, _ in statuses]
        valid = [value.split() for name, value in statuses if name == "VALIDSIG"]
        if names.count("GOODSIG") != 1 or len(valid) != 1 or names.count("PLAINTEXT") != 1:
            raise RefusedError("it must hold one signature of one content")
        # VALIDSIG: fingerprint, day, time, expiry, version, reserved, algorithm, hash, class, primary.
        if valid[0][7] not in _HASHES:
            raise RefusedError("its hash algorithm is too weak")
        if valid[0][-1] not in self.fingerprints:
            raise RefusedError("it is signed by another key")
        return Signed(files.read(content, at_most=_LARGEST_SIGNED), valid[0][-1])


def _reason(said: str) -> str | None:
    """What gpg has against a signature; None when it has nothing, or nothing that is known here."""
    names = {name for name, _ in _STATUS.findall(said)}
    return next((why for name, why in _REFUSALS.items() if name in names), None)


@contextlib.contextmanager
def opened_key(content: bytes, passphrase: Secret | None, folder: Path, what: str) -> Iterator[GpgKey]:
    """The private key in `content`, which messages call `what`, in a home below `folder`.

    Raises UsageError for what is not one key that can sign, and for a passphrase that is not its own:
    nothing is signed before that is known.
    """
    _check_block(content, _PRIVATE, what)
    if passphrase is not None and {"\n", "\r"} & set(passphrase.reveal()):
        raise UsageError(f"the passphrase of {what} has a line break, which `gpg` does not take")
    with _home(folder) as home:
        _import(home, content, what)
        key = GpgKey(*_signing_key(home, "", what), what, home, folder, passphrase)
        key.sign(b"")
        yield key


def own_key(fingerprint: str, passphrase: Secret | None, folder: Path) -> GpgKey:
    """A key that this machine's own gpg has, in its agent or on a card.

    Raises AbsentKeyError without it, and UsageError when it cannot sign.
    """
    what = f"the key {fingerprint}"
    home = _Home(None)
    return GpgKey(*_signing_key(home, fingerprint, what), what, home, folder, passphrase)


def _part(primary: list[str], fingerprint: str, subkeys: list[list[str]]) -> PublicPart:
    signs = [part for part in (primary, *subkeys) if "s" in part[11] and part[1] not in _UNUSABLE]
    ends = datetime.fromtimestamp(int(primary[6]), UTC) if primary[6].isdecimal() else None
    return PublicPart(fingerprint, _UNUSABLE.get(primary[1]), ends, bool(signs), primary not in signs)


@contextlib.contextmanager
def opened_verifier(
    public_key: bytes, folder: Path, what: str, *, several: bool = False
) -> Iterator[GpgVerifier]:
    """The public key in `public_key`, in a home below `folder`; raises UsageError for what is not one.

    With `several` it may hold more than one, and each may have signed.
    """
    _check_block(public_key, _PUBLIC, what)
    with _home(folder) as home:
        _import(home, public_key, what)
        primary = [part.fingerprint for part in GpgVerifier(frozenset(), home).parts()]
        if not primary or (len(primary) > 1 and not several):
            raise UsageError(
                f"{what} holds {len(primary)} keys", hint="export one: `gpg --armor --export ID`"
            )
        yield GpgVerifier(frozenset(primary), home)


@contextlib.contextmanager
def trusting_home(public_keys: Mapping[str, bytes], folder: Path) -> Iterator[Path]:
    """A home that trusts these public keys, by what messages call them, and no others: for git.

    Raises UsageError for what is no public key.
    """
    with _home(folder) as home:
        assert home.path is not None
        (home.path / "gpg.conf").write_text("trust-model always\nweak-digest SHA1\n", encoding="utf-8")
        for what, content in public_keys.items():
            _check_block(content, _PUBLIC, what)
            _import(home, content, what)
        yield home.path


def _check_block(content: bytes, kind: str, what: str) -> None:
    """Raise UsageError unless this is one armored block with nothing around it, or binary."""
    if content[:1] >= b"\x80" and kind == _PRIVATE:
        return
    begin, end = (f"-----{word} PGP {kind} KEY BLOCK-----".encode() for word in ("BEGIN", "END"))
    other = _PUBLIC if kind == _PRIVATE else _PRIVATE
    if f"-----BEGIN PGP {other} KEY BLOCK-----".encode() in content:
        raise UsageError(
            f"{what} is a {other.lower()} key, and a {kind.lower()} one belongs there",
            hint="export it with `gpg --armor --export-secret-keys ID`" if kind == _PRIVATE else None,
        )
    text = content.strip()
    if not (text.startswith(begin) and text.endswith(end)) or text.count(b"-----BEGIN ") != 1:
        raise UsageError(
            f"{what} is not one OpenPGP {kind.lower()} key with nothing before and after it",
            hint=f"it begins with `{begin.decode()}` and ends with `{end.decode()}`",
        )


@contextlib.contextmanager
def _home(folder: Path) -> Iterator[_Home]:
    """A home for gpg below `folder`, reached by a short path: its sockets' paths have a limit (unix(7))."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix=".keys-", dir=folder))
        short = stack.enter_context(tempfile.TemporaryDirectory(prefix="gpg-"))
        path = Path(short) / "home"
        path.symlink_to(Path(place).absolute(), target_is_directory=True)
        stack.callback(_stop_agent, path)
        yield _Home(path)


def _stop_agent(path: Path) -> None:
    # Without its home it would end by itself, after a while.
    with contextlib.suppress(SecureBuildError):
        process.run(_GPGCONF, ["--homedir", str(path), "--kill", "all"], timeout=_SECONDS, quiet=True)


def _import(home: _Home, content: bytes, what: str) -> None:
    try:
        home.run("--import", stdin=content)
    except ProcessError:
        raise UsageError(f"{what} is damaged, or no OpenPGP key") from None


def _listed(home: _Home, command: str, fingerprint: str) -> list[list[str]]:
    """The colon records of keys; none where there are none."""
    try:
        said = home.run("--with-colons", command, *([fingerprint] if fingerprint else []))
    except ProcessError:
        return []
    return [[*line.split(":"), *[""] * 20] for line in said.decode(errors="replace").splitlines()]


def _signing_key(home: _Home, fingerprint: str, what: str) -> tuple[str, str]:
    """The fingerprints of the one primary key that is here, and of its part that signs.

    That is the primary key where it can: readers of signatures know it best, see docs/rhs.md.
    """
    records = _listed(home, "--list-secret-keys", fingerprint)
    parts = [fields for fields in records if fields[0] in ("sec", "ssb")]
    prints = [fields[9] for fields in records if fields[0] == "fpr"]
    primaries = [fields for fields in parts if fields[0] == "sec"]
    if not primaries:
        raise AbsentKeyError(f"{what} is not here: `gpg` finds no private key")
    if len(primaries) > 1:
        raise UsageError(
            f"{what} holds {len(primaries)} private keys",
            hint="export the one that is meant: `gpg --armor --export-secret-keys FINGERPRINT`",
        )
    if (state := primaries[0][1]) in _UNUSABLE:
        raise UsageError(f"{what} {_UNUSABLE[state]}")
    signing = [fields for fields in parts if "s" in fields[11]]
    usable = [fields for fields in signing if fields[1] not in _UNUSABLE and fields[14] != "#"]
    if not usable:
        why = "its part that signs is not in it, or has expired" if signing else "it is for encryption only"
        raise UsageError(f"{what} cannot sign: {why}")
    return prints[0], prints[parts.index(usable[0])]
