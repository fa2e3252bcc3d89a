"""Labels a file as made by AI: IPTC's digital source type, the model and this package's version.

The label is written twice: as XMP, which search engines and social networks read, and as a plain tag for tools that do
not (WebP has no XMP). XMP is placed as Adobe's specification, part 3, says: in its own box in mp4, in an iTXt chunk in
PNG.
"""

from __future__ import annotations

import os
import struct
from typing import Any
from uuid import UUID
from xml.sax.saxutils import quoteattr

from PIL.PngImagePlugin import PngInfo

from . import __version__

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""A trained model made it."""
DRAWN = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"
"""An algorithm made it that was trained on nothing: the drawn world."""
MODEL = "EchoVideo"
SOFTWARE = f"ComfyUI-EchoVideo {__version__}"
XMP_BOX = UUID("be7acfcb-97a9-42e8-9c71-999491e3afac")

_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    {attributes}/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


def describe_origin(source_type: str) -> str:
    """The plain tag: one line."""
    if source_type == TRAINED:
        return f"Made by AI: {MODEL}, {SOFTWARE}, {source_type}"
    return f"Drawn by {SOFTWARE}, {source_type}"


def find_origin(path: str | os.PathLike[str]) -> str | None:
    """The source type that a file's label names; None without a label. Every format holds the label as plain text, and
    so do the files that ComfyUI writes."""
    with open(path, "rb") as file:
        content = file.read()
    if SOFTWARE.partition(" ")[0].encode() not in content:  # of any version
        return None
    return next((origin for origin in (TRAINED, DRAWN) if origin.encode() in content), None)


def write_xmp(source_type: str) -> bytes:
    """The XMP packet, UTF-8."""
    facts = {"Iptc4xmpExt:DigitalSourceType": source_type, "xmp:CreatorTool": SOFTWARE}
    if source_type == TRAINED:
        facts |= {"Iptc4xmpExt:AISystemUsed": MODEL}
    attributes = "\n    ".join(f"{name}={quoteattr(value)}" for name, value in facts.items())
    return _PACKET.format(attributes=attributes).encode()


def tag_mp4(path: str | os.PathLike[str], source_type: str = TRAINED) -> None:
    """Puts the XMP at the end of a finished mp4, in a box of its own: what comes before it does not move."""
    content = XMP_BOX.bytes + write_xmp(source_type)
    with open(path, "ab") as file:
        file.write(struct.pack(">I4s", 8 + len(content), b"uuid") + content)


def describe_picture(source_type: str) -> dict[str, Any]:
    """The arguments of Pillow's `save` that tag a PNG, a JPEG or a WebP; each format takes its own."""
    chunks = PngInfo()
    chunks.add_itxt("XML:com.adobe.xmp", write_xmp(source_type).decode())
    chunks.add_text("Description", describe_origin(source_type))
    return {"pnginfo": chunks, "xmp": write_xmp(source_type), "comment": describe_origin(source_type)}
