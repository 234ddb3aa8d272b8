"""Draw QR codes, which a phone reads."""

from __future__ import annotations

import io

import segno
from markupsafe import Markup


def qr_drawing(text: str) -> Markup:
    """Draw a QR code as SVG, black on white in dark mode as well."""
    drawn = io.BytesIO()
    segno.make(text, error="m").save(
        drawn, kind="svg", scale=5, light="#fff", xmldecl=False, svgns=False, svgclass="qr", nl=False
    )
    return Markup(drawn.getvalue().decode())  # noqa: S704 - made of numbers
