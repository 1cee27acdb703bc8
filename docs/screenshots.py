"""Renders the pictures of docs/status-page.md: `PYTHONPATH=tests python docs/screenshots.py`.

It stages a database with pipelines in several states, and takes the pictures with the system's Chromium.
"""

from __future__ import annotations

import base64
import os
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgvector_sync.store.migrations import migrate
from pgvector_sync.web.app import create_app
from support.roles import GRANTS_OF_SOURCES, OWNER, set_up_roles
from support.servers import new_database, running_postgres
from support.staged import stage
from support.status_page import chromium, served
from support.synced import open_synced, running_endpoint

FOLDER = Path(__file__).resolve().parent / "status-page"
PICTURES = {
    "overview": ("/pipelines", 1280, "light"),
    "trouble": ("/pipelines/support_tickets", 1280, "light"),
    "phone": ("/pipelines", 390, "light"),
    "dark": ("/pipelines/reviews", 1280, "dark"),
}
PHONE_HEIGHT = 1600
PIXELS = """async (png) => {
  const picture = await createImageBitmap(await (await fetch('data:image/png;base64,' + png)).blob());
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext('2d');
  context.drawImage(picture, 0, 0);
  const data = context.getImageData(0, 0, picture.width, picture.height).data;
  let text = '';
  for (let i = 0; i < data.length; i += 32768) text += String.fromCharCode(...data.subarray(i, i + 32768));
  return [picture.width, picture.height, btoa(text)];
}"""


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    os.chdir(tempfile.mkdtemp())
    with running_postgres(18) as server, new_database(server) as database, running_endpoint() as shared:
        set_up_roles(database)
        migrate(database.url_as(OWNER))
        set_up_roles(database)
        database.execute(GRANTS_OF_SOURCES)
        with (
            pytest.MonkeyPatch.context() as patch,
            open_synced(database, shared, Path(tempfile.mkdtemp()), patch) as synced,
            served(create_app(synced.runtime.database, synced.runtime.settings)) as app,
            chromium() as browser,
        ):
            stage(synced)
            pictures = {}
            for name, (path, width, scheme) in PICTURES.items():
                tab = browser.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme)
                tab.goto(app.url + path)
                height = tab.evaluate("document.documentElement.scrollHeight")
                if width < 500:
                    height = min(height, PHONE_HEIGHT)
                clip = {"x": 0, "y": 0, "width": width, "height": height}
                picture = tab.screenshot(full_page=True, clip=clip)
                tab.goto("about:blank")
                pictures[name] = tab.evaluate(PIXELS, base64.b64encode(picture).decode())
                tab.close()
    for name, pixels in pictures.items():
        (FOLDER / f"{name}.png").write_bytes(compressed(*pixels))


def compressed(width: int, height: int, pixels: str) -> bytes:
    """Return a PNG with 256 colours; each other pixel gets the nearest of them."""
    rgb = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(-1, 4)[:, :3].astype(np.int32)
    codes = rgb[:, 0] << 16 | rgb[:, 1] << 8 | rgb[:, 2]
    colours, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    parts = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1)
    chosen = parts[np.argsort(-counts)[:64]]
    apart = np.array([((chosen - part) ** 2).sum(axis=1).min() for part in parts])
    for _ in range(min(192, len(parts) - len(chosen))):  # the one rendered worst, by pixels and distance
        worst = parts[np.argmax(apart * np.sqrt(counts))]
        chosen = np.concatenate([chosen, [worst]])
        apart = np.minimum(apart, ((parts - worst) ** 2).sum(axis=1))
    nearest = np.array([np.argmin(((chosen - part) ** 2).sum(axis=1)) for part in parts], np.uint8)
    rows = nearest[inverse.reshape(-1)].reshape(height, width)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()  # filter 0 before each row

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header: Any = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    palette = chosen.astype(np.uint8).tobytes()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"PLTE", palette)
        + chunk(b"IDAT", zlib.compress(raw, 9))
        + chunk(b"IEND", b"")
    )


if __name__ == "__main__":
    main()
