"""The page at /docs: an OpenAPI description as plain HTML, without scripts, from no other host."""

from __future__ import annotations

import json
from html import escape
from typing import Any

_STYLE = """\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
h2{margin:2rem 0 .3rem;font-size:1.1rem}code,pre{font:14px/1.4 ui-monospace,monospace}
pre{background:#f5f5f5;padding:.7rem;overflow:auto;max-height:24rem}b{color:#05a;font-weight:600}
td{padding:.1rem 1rem .1rem 0;vertical-align:top}summary{cursor:pointer}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#222}b{color:#6bf}}
"""


def render(description: dict[str, Any]) -> bytes:
    """The page, in UTF-8."""
    info = description["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])}</h1>",
        f"<p>{_prose(info['summary'])}, model version {escape(info['version'])}.</p>",
        f"<p>{_prose(info['description'])}</p>",
        "<p>This page as data: <a href=openapi.json>openapi.json</a></p>",
    ]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                parts.append(_operation(method, path, operation))
    schemas = description["components"]["schemas"]
    parts.append("<h2>Types</h2>")
    parts += [_folded(name, schema) for name, schema in schemas.items()]
    return "\n".join(parts).encode()


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [
        f"<h2><b>{method.upper()}</b> <code>{escape(path)}</code></h2>",
        f"<p>{_prose(operation['summary'])}. {_prose(operation.get('description', ''))}</p>",
    ]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        if "example" in content:
            parts.append(f"<pre>{_json(content['example'])}</pre>")
        parts.append(_folded(f"Request: {kind}", content["schema"]))
    answers = "".join(
        f"<tr><td>{status}<td>{_prose(answer['description'])}"
        for status, answer in operation["responses"].items()
    )
    return "\n".join([*parts, f"<table>{answers}</table>"])


def _folded(title: str, content: Any) -> str:
    return f"<details><summary>{escape(title)}</summary><pre>{_json(content)}</pre></details>"


def _json(content: Any) -> str:
    return escape(json.dumps(content, indent=1, ensure_ascii=False))


def _prose(text: str) -> str:
    """Text with `code` in it."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(pieces))
