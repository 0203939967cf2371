"""A picture as what a terminal is sent to show it. Each function draws from the cursor to the right and down.

Sources: kitty's graphics protocol (sw.kovidgoyal.net/kitty/graphics-protocol), iTerm2's inline images
(iterm2.com/documentation-images.html), sixel of the VT340.
"""

import base64
import io
import re
from typing import TYPE_CHECKING

from atelier_client.cli._terminal import Terminal

if TYPE_CHECKING:
    import PIL.Image

_KITTY_PIECE = 4096
_SIXEL_COLOURS = 64


def draw(data: bytes, size: tuple[int, int], terminal: Terminal, picture_id: int) -> str:
    """The escape sequences for an encoded picture.

    Args:
        data: PNG, JPEG or WebP; kitty is sent PNG.
        size: Width and height in pixels.
        terminal: Where it goes.
        picture_id: The same for pictures that take each other's place.
    """
    columns, rows = fit(size, terminal)
    match terminal.protocol:
        case "kitty":
            return _kitty(data if data.startswith(b"\x89PNG") else _as_png(data), columns, rows, picture_id)
        case "iterm2":
            return _iterm2(data, columns, rows)
        case "sixel":
            width, height = terminal.cell
            return _sixel(_open(data, (columns * width, rows * height)))
        case "blocks":
            return _blocks(_open(data, (columns, rows * 2)), true_colour=terminal.true_colour)


def fit(size: tuple[int, int], terminal: Terminal) -> tuple[int, int]:
    """The cells, columns and rows, that a picture covers without being stretched."""
    width, height = size
    cell_width, cell_height = (1, 2) if terminal.protocol == "blocks" else terminal.cell
    scale = min(terminal.columns * cell_width / width, terminal.rows * cell_height / height)
    return max(1, int(width * scale / cell_width)), max(1, int(height * scale / cell_height))


def _open(data: bytes, size: tuple[int, int]) -> "PIL.Image.Image":
    import PIL.Image

    with PIL.Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB").resize(size, PIL.Image.Resampling.BOX)


def _as_png(data: bytes) -> bytes:
    import PIL.Image

    buffer = io.BytesIO()
    with PIL.Image.open(io.BytesIO(data)) as picture:
        picture.save(buffer, "PNG")
    return buffer.getvalue()


def _kitty(data: bytes, columns: int, rows: int, picture_id: int) -> str:
    text = base64.b64encode(data).decode("ascii")
    pieces = [text[start : start + _KITTY_PIECE] for start in range(0, len(text), _KITTY_PIECE)]
    # f=100: PNG; q=2: no answers; C=1: the cursor stays; p=1 puts the new picture in the old one's place.
    first = f"a=T,f=100,q=2,C=1,i={picture_id},p=1,c={columns},r={rows},"
    return "".join(
        f"\x1b_G{first if index == 0 else ''}m={int(index < len(pieces) - 1)};{piece}\x1b\\"
        for index, piece in enumerate(pieces)
    )


def _iterm2(data: bytes, columns: int, rows: int) -> str:
    text = base64.b64encode(data).decode("ascii")
    return f"\x1b]1337;File=inline=1;size={len(data)};width={columns};height={rows};preserveAspectRatio=1:{text}\x07"


def _sixel(picture: "PIL.Image.Image") -> str:
    indexed = picture.quantize(_SIXEL_COLOURS)
    width, height = indexed.size
    pixels, palette = indexed.tobytes(), indexed.getpalette() or []
    colours = [palette[start : start + 3] for start in range(0, len(palette), 3)]
    # Colours are percentages; P2=1 leaves pixels that no colour sets as they are.
    text = [f'\x1bP0;1q"1;1;{width};{height}']
    text += [f"#{number};2;" + ";".join(str(part * 100 // 255) for part in rgb) for number, rgb in enumerate(colours)]
    for top in range(0, height, 6):
        band = [pixels[row * width : (row + 1) * width] for row in range(top, min(top + 6, height))]
        layers = [f"#{colour}{_sixel_layer(band, colour)}" for colour in sorted(set(b"".join(band)))]
        text.append("$".join(layers) + "-")
    return "".join(text) + "\x1b\\"


def _sixel_layer(band: list[bytes], colour: int) -> str:
    """One colour of six rows: a character a column, whose bits are the rows."""
    bits = 0
    for row, pixels in enumerate(band):
        marks = bytes(colour) + bytes([1 << row]) + bytes(255 - colour)
        bits |= int.from_bytes(pixels.translate(marks))
    text = bits.to_bytes(len(band[0])).translate(bytes((value + 63) % 256 for value in range(256))).decode("ascii")
    return re.sub(r"(.)\1{3,}", lambda run: f"!{len(run[0])}{run[1]}", text)


def _blocks(picture: "PIL.Image.Image", *, true_colour: bool) -> str:
    """Upper half-blocks: the foreground is the upper pixel of a cell, the background the lower."""
    width, height = picture.size
    pixels = picture.tobytes()

    def colour(x: int, y: int) -> str:
        red, green, blue = pixels[(y * width + x) * 3 :][:3]
        if true_colour:
            return f"2;{red};{green};{blue}"
        return f"5;{16 + 36 * round(red / 51) + 6 * round(green / 51) + round(blue / 51)}"

    lines = [
        "".join(f"\x1b[38;{colour(x, y)};48;{colour(x, y + 1)}m▀" for x in range(width)) + "\x1b[0m"
        for y in range(0, height, 2)
    ]
    return f"\x1b[{width}D\x1b[1B".join(lines)
