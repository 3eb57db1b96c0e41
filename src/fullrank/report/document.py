"""One HTML document that needs nothing beside it: its styles, scripts and figures are inside."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fullrank.errors import UserError
from fullrank.train.storage import replace_whole

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from jinja2 import Environment


class Figures:
    """The figures of a page by name, as JSON values."""

    def __init__(self) -> None:
        self.drawn: dict[str, Any] = {}

    def add(self, name: str, figure: go.Figure) -> str:
        """Keep a figure; return its name."""
        self.drawn[name] = figure.to_plotly_json()
        return name


def render_document(template: str, shown: Mapping[str, Any]) -> str:
    """Fill a template that extends ``document.html``.

    Args:
        template: its name.
        shown: what it shows; ``figures`` are those that it places, by name.
    """
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = _environment()
    scripts = {
        "watch": _template_text(environment, "watch.js"),
        "plotly": get_plotlyjs().replace("</script", "<\\/script"),
        "page": _template_text(environment, "page.js"),
    }
    return environment.get_template(template).render(
        **shown,
        style=Markup(environment.get_template("style.css").render()),
        scripts={name: Markup(text) for name, text in scripts.items()},
        policy=_policy(scripts.values()),
    )


def write_document(path: Path, page: str) -> None:
    """Write a page whole or not at all: a full disk leaves an earlier page as it was.

    Raises:
        UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(path, page.encode())
    except OSError as error:
        raise UserError(f"out: cannot write {str(path)!r}: {error.strerror or error}.") from error


def check_writable(path: Path) -> None:
    """Refuse a path that no page can be written to, before the work for the page begins.

    Raises:
        UserError: says why.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"out: cannot write {str(path)!r}: {error.strerror or error}.") from error


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("fullrank.report"),
        autoescape=True,  # every text of a record is somebody's input
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template_text(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _policy(scripts: Iterable[str]) -> str:
    """Return a content security policy: these scripts run and no other, nothing is fetched."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
